"""An SVM as numbers says what scikit-learn's says, and no file of numbers is believed unseen."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.svm import SVC

from ser_tf.classifier import Classifier
from ser_tf.errors import UserError
from ser_tf.pairwise_svm import PairwiseSvm, coupled, sides_of_pairs, votes

OLD_RUNS = Path(__file__).parent / "old_runs"
"""Classifiers that ser_tf wrote at commit 9ce7120 (C = 10, embeddings of 4 numbers), and what they answered."""


def fitted(classes: int) -> tuple[SVC, np.ndarray]:
    """scikit-learn's machine on overlapping classes of unequal size, and points to ask it about."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(classes, 6))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 30 * classes)])
    svm = SVC(C=3.0, gamma=0.2, break_ties=True).fit(centres[labels] + 1.5 * rng.normal(size=(len(labels), 6)), labels)
    return svm, 2 * rng.normal(size=(200, 6))


def as_numbers(svm: SVC) -> PairwiseSvm:
    return PairwiseSvm.of(svm, svm.gamma, svm.support_vectors_)


@pytest.mark.parametrize("classes", [2, 3, 6, 8])
def test_margins_and_votes_are_scikit_learns(classes):
    svm, points = fitted(classes)
    machine = as_numbers(svm)
    assert machine.classes == classes
    margins = machine.margins(points.astype("float32"))
    assert margins.shape == (len(points), classes * (classes - 1) // 2)
    margins = machine.margins(points)
    scores = svm.decision_function(points)
    svm.decision_function_shape = "ovo"
    of_pairs = svm.decision_function(points)  # with two classes for the second, and [N]
    np.testing.assert_allclose(margins, -of_pairs[:, None] if classes == 2 else of_pairs, atol=1e-9)
    np.testing.assert_allclose(votes(margins), np.stack([-scores, scores], 1) if classes == 2 else scores, atol=1e-9)


def test_a_tie_of_votes_goes_to_the_larger_margins():
    # Margins of the pairs 01, 02, 12: 0 beats 1, 2 beats 0, 1 beats 2, so that each has one vote.
    scores = votes(np.array([[3.0, -1.0, 2.0]]))
    sums = np.array([3.0 - 1.0, -3.0 + 2.0, 1.0 - 2.0])
    np.testing.assert_allclose(scores, [1 + sums / (3 * (abs(sums) + 1))])
    assert scores.argmax() == 0


def test_a_margin_of_zero_votes_for_the_first_class_of_a_pair():
    np.testing.assert_array_equal(votes(np.zeros((1, 3))), [[2, 1, 0]])


def test_coupling_finds_the_probabilities_that_all_pairs_agree_on():
    # Of 0.5, 0.3 and 0.2 the pairs 01, 02, 12 have the odds 5/3, 5/2, 3/2.
    margins = np.log([[5 / 3, 5 / 2, 3 / 2]])
    np.testing.assert_allclose(np.exp(coupled(margins, 1.0)), [[0.5, 0.3, 0.2]])
    np.testing.assert_allclose(coupled(margins, 2.0), coupled(2 * margins, 1.0))


def test_coupling_of_pairs_that_disagree():
    # 0 beats 1 with the odds 4, 1 beats 2 with 4, and 2 beats 0 with 4: all are 1 / (1 + 1/4 + 4).
    np.testing.assert_allclose(np.exp(coupled(np.log([[4.0, 1 / 4, 4.0]]), 1.0)), np.full((1, 3), 1 / 5.25))


def test_two_classes_get_the_sigmoid_of_their_margin():
    margins = np.array([[-2.0], [0.0], [0.3]])
    np.testing.assert_allclose(np.exp(coupled(margins, 1.5))[:, 0], expit(1.5 * margins[:, 0]))


def test_coupling_survives_margins_that_no_exponential_does():
    # 0 beats 1 by 1e4 and 2 by 1e5, and 2 beats 1 by 1e4, so that 1 has 1 / (1 + 2 e^160000).
    scores = coupled(np.array([[1e4, 1e5, -1e4]]), 16.0)
    np.testing.assert_allclose(scores, [[0, -1.6e5 - np.log(2), -1.6e6]])


def test_pairs_stand_in_scikit_learns_order():
    first, second = sides_of_pairs(6)
    assert list(zip(first.argmax(axis=1), second.argmax(axis=1), strict=True)) == [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 2),
        (1, 3),
        (2, 3),
    ]
    for pairs in (0, 2, 4, 7):
        with pytest.raises(ValueError, match=f"an SVM of {pairs} pairs, which no number of classes has"):
            sides_of_pairs(pairs)


def test_a_file_gives_the_same_numbers_and_the_same_bytes(tmp_path):
    machine = as_numbers(fitted(3)[0])
    for name in ("one.npz", "two.npz"):
        machine.save(tmp_path / name)
    loaded = PairwiseSvm.load(tmp_path / "one.npz")
    assert loaded.gamma == machine.gamma
    for name in ("support", "coefficients", "intercepts"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(machine, name))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.parametrize("emotions", [2, 3])
def test_an_older_classifier_gives_its_old_answers(emotions):
    folder = OLD_RUNS / f"{emotions}_emotions"
    classifier = Classifier.load(folder)
    assert (classifier.slope, classifier.svm.classes, len(classifier.emotions)) == (None, emotions, emotions)
    answers = np.load(folder / "answers.npz")
    assert set(answers["probabilities"].argmax(axis=1)) == set(range(emotions))
    np.testing.assert_allclose(classifier.probabilities(answers["embeddings"]), answers["probabilities"], rtol=1e-9)


ARRAYS = {
    "gamma": np.array(0.5),
    "support": np.arange(8.0).reshape(4, 2),
    "coefficients": np.ones((4, 3)),
    "intercepts": np.zeros(3),
}


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def bytes_of(array, **claims) -> bytes:
    """An array as NumPy writes it, with other claims in its header."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, np.lib.format.header_data_from_array_1_0(array) | claims)
    return content.getvalue() + np.asarray(array).tobytes()


CHANGED = {
    "a gamma of zero": ({"gamma": np.array(0.0)}, "gamma of 0"),
    "a negative gamma": ({"gamma": np.array(-1.0)}, "gamma of 0"),
    "a gamma that is none": ({"gamma": np.array(np.nan)}, "not finite"),
    "two gammas": ({"gamma": np.array([0.5, 0.5])}, r"a gamma of the shape \(2,\)"),
    "a support vector that is none": ({"support": np.full((4, 2), np.nan)}, "not finite"),
    "infinite coefficients": ({"coefficients": np.full((4, 3), -np.inf)}, "not finite"),
    "numbers whose sum overflows": ({"intercepts": np.full(3, 1e308)}, "not finite, or above 1e"),
    "no support vector": ({"support": np.ones((0, 2)), "coefficients": np.ones((0, 3))}, "shapes"),
    "support vectors of no size": ({"support": np.ones((4, 0))}, "shapes"),
    "support vectors in a row": ({"support": np.ones(8)}, "shapes"),
    "too few coefficients": ({"coefficients": np.ones((3, 3))}, "shapes"),
    "coefficients on their side": ({"coefficients": np.ones((3, 4))}, "shapes"),
    "four pairs": ({"coefficients": np.ones((4, 4)), "intercepts": np.ones(4)}, "4 pairs"),
    "no pair": ({"coefficients": np.ones((4, 0)), "intercepts": np.ones(0)}, "0 pairs"),
    "single precision": ({"support": np.ones((4, 2), "float32")}, "of the type float32"),
    "complex numbers": ({"intercepts": np.ones(3, "complex128")}, "of the type complex128"),
    "text": ({"intercepts": np.array(["a", "b", "c"])}, "of the type <U1"),
    "a pickle": ({"intercepts": np.array([Malicious()] * 3)}, "of the type object"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_an_svm_whose_numbers_do_not_fit_is_refused(change, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed, reason = CHANGED[change]
    np.savez(tmp_path / "svm.npz", **ARRAYS | changed)
    with pytest.raises(ValueError, match=reason):
        PairwiseSvm.load(tmp_path / "svm.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((10**6, 10**5), r"shape \(1000000, 100000\) in 64 bytes"),  # 800 GB
        ((4, 1), r"shape \(4, 1\) in 64 bytes"),
        ((-4, -2), r"shape \(-4, -2\) in 64 bytes"),
    ],
)
def test_a_claim_is_compared_with_what_is_there(shape, reason, tmp_path):
    path = tmp_path / "svm.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in ARRAYS.items():
            archive.writestr(f"{name}.npy", bytes_of(array, **{"shape": shape} if name == "support" else {}))
    with pytest.raises(ValueError, match=reason):
        PairwiseSvm.load(path)


def test_a_compressed_file_is_refused_unread(tmp_path):
    np.savez_compressed(tmp_path / "svm.npz", **ARRAYS | {"support": np.zeros((10**6, 2))})
    assert (tmp_path / "svm.npz").stat().st_size < 10**5
    with pytest.raises(ValueError, match="compressed, or larger"):
        PairwiseSvm.load(tmp_path / "svm.npz")


def test_a_pipe_is_not_waited_for(tmp_path):
    for name, load in (("svm.npz", PairwiseSvm.load), ("svm.skops", PairwiseSvm.load_skops)):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match="not a regular file"):
            load(tmp_path / name)


def of_old(arrays=None, **attributes):
    """Change arrays or attributes of the older file, by name."""

    def change(schema, members):
        stored = schema["content"]["content"]
        for name, array in (arrays or {}).items():
            content = io.BytesIO()
            np.save(content, array)
            members[stored[name]["file"]] = content.getvalue()
        for name, value in attributes.items():
            stored[name]["content"] = value

    return change


def without(name):
    def change(schema, members):
        del members[schema["content"]["content"][name]["file"]]

    return change


OLD_CHANGED = {
    "fewer support vectors": (of_old({"support_vectors_": np.ones((3, 4))}), "shapes"),
    "support vectors in a row": (of_old({"support_vectors_": np.ones(80)}), "shapes"),
    "too few dual coefficients": (of_old({"dual_coef_": np.ones((1, 20))}), "shapes"),
    "too many intercepts": (of_old({"intercept_": np.ones(6)}), "3 classes with 6 intercepts"),
    "a negative count": (of_old({"_n_support": np.array([-6, 18, 8], "int32")}), "a negative count"),
    "counts beyond the arrays": (of_old({"_n_support": np.array([2**30, 2**30, 8], "int32")}), "shapes"),
    "counts of a wrong type": (of_old({"_n_support": np.array([6.0, 6.0, 8.0])}), "of the type float64"),
    "a count that is a number": (of_old({"_n_support": np.array(20, "int32")}), "shapes"),
    "not a number": (of_old({"dual_coef_": np.full((2, 20), np.nan)}), "not finite"),
    "another kernel": (of_old(kernel='"linear"'), "another kernel"),
    "gamma in words": (of_old(gamma='"scale"'), "without the number gamma"),
    "a gamma that is none": (of_old(gamma="NaN"), "not finite"),
    "gamma in brackets": (of_old(gamma="[" * 5000), "100 levels|Expecting value"),
    "a lost array": (without("intercept_"), "no item named"),
    "a different estimator": (lambda schema, _: schema.update({"__class__": "LogisticRegression"}), "holds no SVC"),
    "a list": (lambda schema, _: schema.update({"content": []}), "expected a mapping"),
    "nothing": (lambda schema, _: schema.clear(), "holds no SVC"),
}


@pytest.mark.parametrize("change", OLD_CHANGED)
def test_an_older_svm_whose_numbers_do_not_fit_is_refused(change, tmp_path):
    do, reason = OLD_CHANGED[change]
    with zipfile.ZipFile(OLD_RUNS / "3_emotions" / "svm.skops") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    do(schema, members)
    with zipfile.ZipFile(tmp_path / "svm.skops", "w") as archive:
        for name, content in (members | {"schema.json": json.dumps(schema).encode()}).items():
            archive.writestr(name, content)
    (tmp_path / "classifier.json").write_bytes((OLD_RUNS / "3_emotions" / "classifier.json").read_bytes())
    with pytest.raises(UserError, match=rf"^{tmp_path}: expected a classifier .*({reason}).* train again$"):
        Classifier.load(tmp_path)


def test_nothing_of_an_older_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "svm.skops").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(zipfile.BadZipFile):
        PairwiseSvm.load_skops(tmp_path / "svm.skops")
    assert not (tmp_path / "executed").exists()
