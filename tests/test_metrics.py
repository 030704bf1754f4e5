import audmetric
import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, classification_report

from ser_tf.metrics import expected_calibration_error, reliability, score, unweighted_average_recall

EMOTIONS = ("neutral", "happy", "sad", "angry")


def one_hot(prediction: list[int]) -> np.ndarray:
    return np.eye(len(EMOTIONS))[prediction]


def test_scores_equal_those_of_scikit_learn_and_audmetric(rng):
    truth = rng.integers(0, 4, size=200)
    probabilities = rng.dirichlet(np.ones(4), size=200) + 0.3 * one_hot(truth)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    prediction = probabilities.argmax(axis=1)
    scores = score(truth, probabilities, EMOTIONS)
    report = classification_report(truth, prediction, target_names=EMOTIONS, output_dict=True)

    assert 0.3 < scores.uar < 0.9  # neither chance nor perfection, which any formula gets right
    assert scores.utterances == 200
    assert scores.wa == pytest.approx(report["accuracy"])
    assert scores.wa == pytest.approx(audmetric.accuracy(truth, prediction))
    assert scores.uar == pytest.approx(balanced_accuracy_score(truth, prediction))
    assert scores.uar == pytest.approx(audmetric.unweighted_average_recall(truth, prediction))
    assert scores.macro_f1 == pytest.approx(report["macro avg"]["f1-score"])
    assert scores.macro_f1 == pytest.approx(audmetric.unweighted_average_fscore(truth, prediction))
    assert scores.recall == pytest.approx({emotion: report[emotion]["recall"] for emotion in EMOTIONS})
    assert scores.confusion == audmetric.confusion_matrix(truth, prediction)


def test_scores_by_hand_when_the_truth_lacks_an_emotion():
    # neutral: 2 of 3 right, one taken for sad, which does not occur; happy: 1 of 1; angry: 1 of 2, the other "happy".
    truth = np.array([0, 0, 0, 1, 3, 3])
    prediction = [0, 0, 2, 1, 3, 1]
    scores = score(truth, one_hot(prediction), EMOTIONS)
    assert scores.wa == pytest.approx(4 / 6)
    assert scores.recall == pytest.approx({"neutral": 2 / 3, "happy": 1.0, "sad": None, "angry": 1 / 2})
    assert scores.uar == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    # F1 = 2 hits / (2 hits + misses + false alarms): 4/5, 2/3, 2/3 over the three that occur.
    assert scores.macro_f1 == pytest.approx((4 / 5 + 2 / 3 + 2 / 3) / 3)
    assert scores.confusion == [[2, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]]
    assert unweighted_average_recall(truth, np.array(prediction)) == scores.uar


def test_calibration_error_by_hand():
    # Bins of 1/15. Confidences 0.61 and 0.65 share bin 9 (0.6 to 0.667), 0.9 is in bin 13, 1.0 in the last one.
    probabilities = np.array([[0.61, 0.39], [0.35, 0.65], [0.9, 0.1], [0.0, 1.0]])
    truth = np.array([0, 0, 1, 1])  # hit, miss; miss; hit
    # bin 9: |1/2 - 0.63| = 0.13, half of the utterances; bin 13: |0 - 0.9|, a quarter; the last: no gap.
    assert expected_calibration_error(truth, probabilities) == pytest.approx(0.5 * 0.13 + 0.25 * 0.9)


@pytest.mark.parametrize(("truth", "expected"), [([0, 1, 2, 3], 0.0), ([1, 2, 3, 0], 1.0)])
def test_certainty_is_calibrated_only_where_it_is_right(truth, expected):
    assert expected_calibration_error(np.array(truth), one_hot([0, 1, 2, 3])) == expected


def test_the_reliability_curve_equals_that_of_scikit_learn(rng):
    confidence = rng.uniform(0.25, 1, size=500)
    hit = rng.uniform(size=500) < confidence**2
    curve = reliability(confidence, hit)
    accuracy, mean_confidence = calibration_curve(hit, confidence, n_bins=15)
    assert [one.accuracy for one in curve] == pytest.approx(accuracy)
    assert [one.confidence for one in curve] == pytest.approx(mean_confidence)
    assert [one.lower for one in curve] == pytest.approx(np.arange(3, 15) / 15)  # 0.25 is in the bin of 3/15 to 4/15
    assert all(one.lower <= one.confidence <= one.upper for one in curve)
    counts, _ = np.histogram(confidence, bins=15, range=(0, 1))
    assert [one.utterances for one in curve] == counts[3:].tolist()
