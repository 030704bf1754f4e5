import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.svm import SVC

from ser_tf import classifier as module
from ser_tf.classifier import (
    SEARCHED_C,
    SEARCHED_GAMMA_FACTORS,
    SLOPE,
    Classifier,
    epoch_uar,
    fit_inverse_temperature,
    fit_softmax,
    fit_svm,
    scale_gamma,
)
from ser_tf.errors import UserError
from ser_tf.pairwise_svm import PairwiseSvm, coupled

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
    """A classifier with its training and validation side, and new embeddings."""
    emotions = request.param
    training, validation = clouds(rng, 30, emotions), clouds(rng, 12, emotions)
    classifier, _ = fit_svm(*training, *validation, EMOTIONS[:emotions])
    return classifier, validation, clouds(rng, 40, emotions)[0]


def test_probabilities_are_distributions_whose_largest_wins_the_coupling(fitted):
    classifier, _, embeddings = fitted
    probabilities = classifier.probabilities(embeddings)
    assert probabilities.shape == (len(embeddings), len(classifier.emotions))
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    scores = coupled(classifier.svm.margins(embeddings), classifier.slope)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), scores.argmax(axis=1))
    assert len(set(probabilities.argmax(axis=1))) == len(classifier.emotions)


def test_confidence_separates_right_from_wrong(rng):
    training, validation = clouds(rng, 60), clouds(rng, 40)
    classifier, _ = fit_svm(*training, *validation, EMOTIONS)
    embeddings, labels = clouds(rng, 200)
    probabilities = classifier.probabilities(embeddings)
    hit = probabilities.argmax(axis=1) == labels
    assert 0.4 < hit.mean() < 0.9
    assert roc_auc_score(hit, probabilities.max(axis=1)) > 0.65


class LogitsAsScores(LogisticRegression):
    """An estimator whose scores are its input, for scikit-learn's calibration."""

    def decision_function(self, scores):
        return (scores[:, 1] - scores[:, 0]) / 2 if scores.shape[1] == 2 else scores


@pytest.mark.parametrize("emotions", [2, 5])
def test_the_temperature_is_scikit_learns(rng, emotions):
    labels = np.tile(np.arange(emotions), 40)
    scores = rng.normal(size=(len(labels), emotions)) + 2 * np.eye(emotions)[labels]
    scores -= scores.mean(axis=1, keepdims=True)
    estimator = FrozenEstimator(LogitsAsScores().fit(scores, labels))
    calibrated = CalibratedClassifierCV(estimator, method="temperature").fit(scores, labels)
    expected = calibrated.calibrated_classifiers_[0].calibrators[0].beta_
    assert fit_inverse_temperature(scores, labels) == pytest.approx(expected, rel=1e-4)


def test_the_temperature_is_the_likeliest():
    # Scores of +-1, right in 3 of 4: the likeliest softmax gives 3/4 to the larger, so 2 b = logit(3/4) = ln 3.
    scores = np.array([[1.0, -1.0]] * 4 + [[-1.0, 1.0]] * 4)
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    inverse_temperature = fit_inverse_temperature(scores, labels)
    assert inverse_temperature == pytest.approx(np.log(3) / 2, rel=1e-4)
    classifier = fit_softmax(scores.astype("float32"), labels, EMOTIONS[:2])
    assert classifier.svm is None
    np.testing.assert_allclose(classifier.probabilities(scores[:1]), [[0.75, 0.25]], rtol=1e-4)


def test_of_two_emotions_the_second_has_the_rest(rng):
    embeddings, labels = clouds(rng, 20, emotions=2)
    svm = SVC(gamma=1.0).fit(embeddings, labels)
    machine = PairwiseSvm.of(svm, svm.gamma, svm.support_vectors_)
    # (sigmoid(2 m))^0.7, normalised over both classes, is sigmoid(0.7 * 2 m).
    probability = Classifier(EMOTIONS[:2], 0.7, machine, slope=2.0).probabilities(embeddings)[:, 1]
    np.testing.assert_allclose(probability, expit(2.0 * 0.7 * svm.decision_function(embeddings)), rtol=1e-6)


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
    files = {"classifier.json"} | ({"svm.npz"} if kind == "svm" else set())
    assert {file.name for file in tmp_path.iterdir()} == files
    about = json.loads((tmp_path / "classifier.json").read_text())
    assert (about["kind"], about.get("confidence")) == (kind, "pairwise coupling" if kind == "svm" else None)


@pytest.fixture
def saved(rng, tmp_path):
    """Folder of an SVM on five emotions."""
    classifier, _ = fit_svm(*clouds(rng, 10), *clouds(rng, 10), EMOTIONS)
    classifier.save(tmp_path)
    return tmp_path


def expect_refusal(folder, reason):
    with pytest.raises(UserError, match=rf"expected a classifier .*{reason}.* or remove the folder") as error:
        Classifier.load(folder)
    assert str(error.value).startswith(f"{folder}: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("svm.npz", b"PK\x03\x04half", "BadZipFile"),
        ("svm.npz", None, "FileNotFoundError"),
        ("classifier.json", b'{"kind": ', "JSONDecodeError"),
        ("classifier.json", b"{}", "expected kind, emotions. Received: no kind"),
        ("classifier.json", b"[]", "expected a mapping"),
        ("classifier.json", b"[" * 5000, "100 levels"),
        ("classifier.json", None, "FileNotFoundError"),
    ],
)
def test_what_is_no_classifier_is_refused(name, content, reason, saved):
    if content is None:
        (saved / name).unlink()
    else:
        (saved / name).write_bytes(content)
    expect_refusal(saved, reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "forest"}, "expected a softmax, or an svm with pairwise coupling. Received: 'forest'"),
        ({"kind": ["svm"]}, "kind: expected text"),
        ({"confidence": "tea leaves"}, "Received: 'svm' with 'tea leaves'"),
        ({"confidence": ["pairwise coupling"]}, "Received: 'svm' with "),
        ({"kind": "softmax"}, "Received: 'softmax' with 'pairwise coupling'"),
        ({"emotions": list(EMOTIONS[:4])}, "classifier.json names 4 emotions, and the SVM knows 5"),
        ({"emotions": [*EMOTIONS, "calm"]}, "classifier.json names 6 emotions, and the SVM knows 5"),
        ({"emotions": ["happy", *EMOTIONS[1:]]}, "each once"),
        ({"emotions": [1_000_000_000, *EMOTIONS[1:]]}, "expected text. Received: 1000000000"),
        ({"emotions": "happy"}, "expected a list"),
        ({"emotions": []}, "two emotions or more"),
        ({"emotions": ["", *EMOTIONS[1:]]}, "each once"),
        ({"emotions": ["a\nb", *EMOTIONS[1:]]}, "each once"),
        ({"emotions": ["x" * 10**6] * 5}, "each once"),
        *(
            ({name: value}, f"{name}: expected a number")
            for name in ("inverse_temperature", "slope")
            for value in (np.nan, np.inf, -np.inf, 0, -1.0, 1e300, 10**400, "1", None, True)
        ),
    ],
)
def test_a_description_that_cannot_be_is_refused(change, reason, saved):
    path = saved / "classifier.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    expect_refusal(saved, reason)


def test_what_an_older_version_left_before_it_was_stopped_goes(saved):
    (saved / "svm.skops").write_bytes(b"")
    Classifier.load(saved).save(saved)
    assert not (saved / "svm.skops").exists()


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
    svm = SVC(C=c, gamma=gamma, decision_function_shape="ovo").fit(*training)
    margins = svm.decision_function(validation[0])
    return balanced_accuracy_score(validation[1], coupled(margins, SLOPE).argmax(axis=1))


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
    svm = SVC(C=c, gamma=factor * scale, decision_function_shape="ovo").fit(*training)
    embeddings = clouds(rng, 10)[0]
    np.testing.assert_allclose(classifier.svm.margins(embeddings), svm.decision_function(embeddings), atol=1e-3)


def test_validation_speakers_choose_but_are_not_learned_from(rng, monkeypatch):
    training = clouds(rng, 20)
    monkeypatch.setattr(module, "SEARCHED_C", (1.0,))
    monkeypatch.setattr(module, "SEARCHED_GAMMA_FACTORS", (1.0,))
    first, _ = fit_svm(*training, *clouds(rng, 10), EMOTIONS)
    second, _ = fit_svm(*training, *clouds(rng, 10), EMOTIONS)
    np.testing.assert_array_equal(first.svm.coefficients, second.svm.coefficients)  # the same SVM
    assert first.inverse_temperature != second.inverse_temperature


def test_collapsed_embeddings_are_scored_as_chance_and_not_as_an_error():
    embeddings = np.full((20, SIZE), 0.25, "float32")
    labels = np.tile(np.arange(5), 4)
    assert scale_gamma(embeddings) == 1.0  # as in scikit-learn
    assert epoch_uar(embeddings, labels, embeddings, labels) == pytest.approx(1 / 5)
    classifier, chosen = fit_svm(embeddings, labels, embeddings, labels, EMOTIONS)
    assert chosen["validation_uar"] == pytest.approx(1 / 5)
    np.testing.assert_allclose(classifier.probabilities(embeddings).sum(axis=1), 1)
