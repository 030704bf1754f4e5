"""Scores of predicted emotions; scikit-learn computes most of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Scores:
    """Scores of a set of utterances, in [0, 1]."""

    utterances: int
    wa: float
    """Weighted accuracy: the share of correct predictions."""
    uar: float
    """Unweighted average recall over the emotions in the truth."""
    macro_f1: float
    """Unweighted mean F1 of the same emotions."""
    recall: dict[str, float | None]
    """Per emotion; None if the truth has no such utterance."""
    confusion: list[list[int]]
    """Counts: one row per true emotion, one column per predicted emotion."""
    ece: float
    """Expected calibration error of the predicted emotion's probability, in 15 equal bins."""


def score(truth: np.ndarray, probabilities: np.ndarray, emotions: Sequence[str]) -> Scores:
    """Compare the true emotions with predicted distributions.

    Args:
        truth: int [N], class numbers.
        probabilities: float [N, C]; the prediction is the largest in a row.
        emotions: the C names, in class order.
    """
    prediction = probabilities.argmax(axis=1)
    present = np.unique(truth)
    recalls = recall_score(truth, prediction, labels=present, average=None)
    by_class = dict(zip(present.tolist(), recalls.tolist(), strict=True))
    return Scores(
        utterances=len(truth),
        wa=float(accuracy_score(truth, prediction)),
        uar=unweighted_average_recall(truth, prediction),
        macro_f1=float(f1_score(truth, prediction, labels=present, average="macro")),
        recall={emotion: by_class.get(index) for index, emotion in enumerate(emotions)},
        confusion=confusion_matrix(truth, prediction, labels=range(len(emotions))).tolist(),
        ece=expected_calibration_error(truth, probabilities),
    )


def unweighted_average_recall(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean recall over the classes in `truth`; both int [N]."""
    return float(recall_score(truth, prediction, labels=np.unique(truth), average="macro"))


@dataclass(frozen=True)
class ReliabilityBin:
    """The utterances whose confidence, the largest probability, lies in one of 15 equal bins."""

    lower: float
    upper: float
    utterances: int
    confidence: float
    """Mean."""
    accuracy: float


def reliability(confidence: np.ndarray, hit: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """The reliability curve (Guo et al. 2017, eq. 1 and 2) without empty bins.

    Args:
        confidence: float [N] in [0, 1].
        hit: bool [N], whether the prediction is right.
    """
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return tuple(
        ReliabilityBin(
            lower=index / CALIBRATION_BINS,
            upper=(index + 1) / CALIBRATION_BINS,
            utterances=int((bins == index).sum()),
            confidence=float(confidence[bins == index].mean()),
            accuracy=float(hit[bins == index].mean()),
        )
        for index in np.unique(bins).tolist()
    )


def calibration_error(curve: Sequence[ReliabilityBin]) -> float:
    """Mean gap between confidence and accuracy, weighted by utterances (Guo et al. 2017, eq. 3)."""
    gaps = [abs(one.accuracy - one.confidence) * one.utterances for one in curve]
    return sum(gaps) / sum(one.utterances for one in curve)


def expected_calibration_error(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Calibration error of the predicted emotion's probability.

    Args:
        truth: int [N].
        probabilities: float [N, C].
    """
    return calibration_error(reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth))
