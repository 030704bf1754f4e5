import json
import os
import pickle

import numpy as np
import pytest
import skops.io
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from ser_tf import classifier as module
from ser_tf.classifier import (
    SEARCHED_C,
    SEARCHED_GAMMA_FACTORS,
    Classifier,
    decision_scores,
    epoch_uar,
    fit_inverse_temperature,
    fit_softmax,
    fit_svm,
    scale_gamma,
)
from ser_tf.errors import UserError

EMOTIONS = ("neutral", "happy", "sad", "angry", "fearful")
SIZE = 12


def clouds(rng: np.random.Generator, count: int, emotions: int = len(EMOTIONS)) -> tuple[np.ndarray, np.ndarray]:
    """Unit-norm embeddings of overlapping classes: `count` of each."""
    centres = np.random.default_rng(7).normal(size=(emotions, SIZE))
    labels = np.tile(np.arange(emotions, dtype="int32"), count)
    embeddings = centres[labels] + 1.5 * rng.normal(size=(len(labels), SIZE))
    return (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype("float32"), labels


@pytest.fixture(params=[5, 2], ids=["five emotions", "two emotions"])
def fitted(request, rng):
    """A classifier with its training and validation side, and unheard embeddings."""
    emotions = request.param
    training, validation = clouds(rng, 30, emotions), clouds(rng, 12, emotions)
    classifier, _ = fit_svm(*training, *validation, EMOTIONS[:emotions])
    return classifier, validation, clouds(rng, 40, emotions)[0]


def test_probabilities_are_distributions_whose_largest_is_the_svms_word(fitted):
    classifier, _, embeddings = fitted
    probabilities = classifier.probabilities(embeddings)
    assert probabilities.shape == (len(embeddings), len(classifier.emotions))
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), classifier.svm.predict(embeddings))
    assert len(set(probabilities.argmax(axis=1))) == len(classifier.emotions)


def test_the_temperature_is_scikit_learns(fitted):
    classifier, (validation, labels), embeddings = fitted
    calibrated = CalibratedClassifierCV(FrozenEstimator(classifier.svm), method="temperature").fit(validation, labels)
    np.testing.assert_allclose(
        classifier.probabilities(embeddings), calibrated.predict_proba(embeddings), rtol=1e-4, atol=1e-6
    )


def test_the_temperature_is_the_likeliest():
    # Scores of +-1, right in 3 of 4: the likeliest softmax gives 3/4 to the larger, so 2 b = logit(3/4) = ln 3.
    scores = np.array([[1.0, -1.0]] * 4 + [[-1.0, 1.0]] * 4)
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    inverse_temperature = fit_inverse_temperature(scores, labels)
    assert inverse_temperature == pytest.approx(np.log(3) / 2, rel=1e-4)
    classifier = fit_softmax(scores.astype("float32"), labels, EMOTIONS[:2])
    assert classifier.svm is None
    np.testing.assert_allclose(classifier.probabilities(scores[:1]), [[0.75, 0.25]], rtol=1e-4)


def test_two_emotions_get_a_score_each(rng):
    embeddings, labels = clouds(rng, 20, emotions=2)
    svm = SVC().fit(embeddings, labels)
    scores = decision_scores(svm, embeddings)
    np.testing.assert_array_equal(scores, np.stack([-svm.decision_function(embeddings), scores[:, 1]], axis=1))
    probability = Classifier(EMOTIONS[:2], 0.7, svm).probabilities(embeddings)[:, 1]
    np.testing.assert_allclose(probability, expit(2 * 0.7 * scores[:, 1]))


@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_a_saved_classifier_comes_back_bit_for_bit(kind, rng, tmp_path):
    embeddings, labels = clouds(rng, 20)
    if kind == "svm":
        classifier, _ = fit_svm(embeddings, labels, *clouds(rng, 10), EMOTIONS)
        features = clouds(rng, 30)[0]
    else:
        classifier = fit_softmax(rng.normal(size=(100, 5)).astype("float32"), labels, EMOTIONS)
        features = rng.normal(size=(30, 5)).astype("float32")
    classifier.save(tmp_path)
    loaded = Classifier.load(tmp_path)
    assert loaded.emotions == EMOTIONS
    assert (loaded.svm is None) == (kind == "softmax")
    np.testing.assert_array_equal(loaded.probabilities(features), classifier.probabilities(features))
    files = {"classifier.json"} | ({"svm.skops"} if kind == "svm" else set())
    assert {file.name for file in tmp_path.iterdir()} == files
    assert json.loads((tmp_path / "classifier.json").read_text())["kind"] == kind


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("untrusted type", "Untrusted types found in the file"),
        ("pickle", "BadZipFile"),
        ("another estimator", r"svm\.skops holds a LogisticRegression"),
        ("truncated svm", "BadZipFile"),
        ("absent svm", "FileNotFoundError"),
        ("truncated description", "JSONDecodeError"),
        ("description of another program", "KeyError: 'kind'"),
        ("absent description", "FileNotFoundError"),
    ],
)
def test_what_is_no_classifier_is_refused_and_never_executed(damage, reason, rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    embeddings, labels = clouds(rng, 5)
    Classifier(EMOTIONS, 1.0, SVC().fit(embeddings, labels)).save(tmp_path)
    svm, description = tmp_path / "svm.skops", tmp_path / "classifier.json"
    if damage == "untrusted type":
        skops.io.dump(FunctionTransformer(os.mkdir, kw_args={"path": "executed"}), svm)
    elif damage == "pickle":
        svm.write_bytes(pickle.dumps(Malicious()))
    elif damage == "another estimator":
        skops.io.dump(LogisticRegression().fit(embeddings, labels), svm)
    elif damage == "description of another program":
        description.write_text("{}")
    else:
        file = svm if "svm" in damage else description
        file.write_bytes(file.read_bytes()[:30])
        if "absent" in damage:
            file.unlink()
    with pytest.raises(UserError, match=f"expected a classifier .*{reason}.* or remove the folder") as error:
        Classifier.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("side", ["training", "validation"])
def test_a_side_that_lacks_emotions_is_refused(side, rng):
    sides = {"training": clouds(rng, 5), "validation": clouds(rng, 5)}
    embeddings, labels = sides[side]
    kept = (labels != 1) & (labels != 4)
    sides[side] = embeddings[kept], labels[kept]
    message = f"^{side} speakers: expected utterances of every emotion; none of happy, fearful. Choose another fold"
    with pytest.raises(UserError, match=message):
        fit_svm(*sides["training"], *sides["validation"], EMOTIONS)
    if side == "validation":
        with pytest.raises(UserError, match=message):
            fit_softmax(sides["validation"][0], sides["validation"][1], EMOTIONS)


def rbf_uar(training, validation, c: float, gamma: float | str) -> float:
    svm = SVC(C=c, gamma=gamma, break_ties=True).fit(*training)
    return balanced_accuracy_score(validation[1], svm.predict(validation[0]))


def test_an_epochs_score_is_that_of_scikit_learns_rbf_svm(rng):
    training, validation = clouds(rng, 30), clouds(rng, 20)
    expected = rbf_uar(training, validation, c=10.0, gamma="scale")
    assert 0.3 < expected < 0.9
    assert epoch_uar(*training, *validation) == pytest.approx(expected)


def test_the_search_takes_the_first_best_on_validation_speakers(rng):
    training, validation = clouds(rng, 20), clouds(rng, 12)
    scale = 1 / (SIZE * training[0].var())  # scikit-learn's definition of gamma='scale'
    assert scale_gamma(training[0]) == pytest.approx(scale)
    uars = {
        (c, factor): rbf_uar(training, validation, c, factor * scale)
        for c in SEARCHED_C
        for factor in SEARCHED_GAMMA_FACTORS
    }
    best = max(uars.values())
    assert len(set(uars.values())) > 2
    c, factor = next(pair for pair, uar in uars.items() if uar == best)

    classifier, chosen = fit_svm(*training, *validation, EMOTIONS)
    assert chosen == pytest.approx({"c": c, "gamma": factor * scale, "validation_uar": best})
    svm = classifier.svm
    assert (svm.kernel, svm.C, svm.gamma) == ("rbf", chosen["c"], chosen["gamma"])
    assert (svm.decision_function_shape, svm.break_ties) == ("ovr", True)


def test_validation_speakers_choose_but_are_not_learned_from(rng, monkeypatch):
    training = clouds(rng, 20)
    monkeypatch.setattr(module, "SEARCHED_C", (1.0,))
    monkeypatch.setattr(module, "SEARCHED_GAMMA_FACTORS", (1.0,))
    first, _ = fit_svm(*training, *clouds(rng, 10), EMOTIONS)
    second, _ = fit_svm(*training, *clouds(rng, 10), EMOTIONS)
    np.testing.assert_array_equal(first.svm.dual_coef_, second.svm.dual_coef_)  # the same SVM
    assert first.inverse_temperature != second.inverse_temperature


def test_collapsed_embeddings_are_scored_as_chance_and_not_as_an_error():
    embeddings = np.full((20, SIZE), 0.25, "float32")
    labels = np.tile(np.arange(5), 4)
    assert scale_gamma(embeddings) == 1.0  # as in scikit-learn
    assert epoch_uar(embeddings, labels, embeddings, labels) == pytest.approx(1 / 5)
    classifier, chosen = fit_svm(embeddings, labels, embeddings, labels, EMOTIONS)
    assert chosen["validation_uar"] == pytest.approx(1 / 5)
    np.testing.assert_allclose(classifier.probabilities(embeddings).sum(axis=1), 1)
