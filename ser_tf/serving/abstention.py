"""Abstention: below a threshold of probability, a predicted emotion does not count as an answer.

The threshold is the lowest that keeps a given risk on the run's validation speakers. The risk is the share of errors
among the answers (Geifman and El-Yaniv 2017; without their bound, which needs recordings that chose nothing).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ser_tf.errors import UserError
from ser_tf.runs.predictions import confidence_and_hit, read_side
from ser_tf.serving.loading import predictions_of

FEWEST_ANSWERED = 30
"""Minimum number of answered validation recordings. Even 30 without an error allow a risk of one tenth, by the rule of
three (3 / 30)."""


@dataclass(frozen=True)
class Outcome:
    """The effect of a threshold on recordings whose emotion is known.

    Attributes:
        recordings: number of recordings.
        speakers: number of speakers.
        coverage: share of recordings answered.
        risk: share of errors among the answers; None if there are no answers.
    """

    recordings: int
    speakers: int
    coverage: float
    risk: float | None

    def __str__(self) -> str:
        """In words."""
        coverage = f"{100 * self.coverage:.1f} % answered"
        return coverage if self.risk is None else f"{coverage}, {100 * self.risk:.1f} % of those wrong"


@dataclass(frozen=True)
class Abstention:
    """A threshold and its effect on validation and test speakers.

    Example:
        >>> abstention = Abstention.for_risk("runs/mine", 0.3)  # doctest: +SKIP
        >>> abstention.abstains(recogniser("clip.wav").probability)  # doctest: +SKIP
        False

    Attributes:
        risk: the risk asked for.
        threshold: the lowest probability that is answered.
        validation: effect on the recordings that chose the threshold.
        test: effect on recordings that chose nothing.
    """

    risk: float
    threshold: float
    validation: Outcome
    test: Outcome

    @classmethod
    def for_risk(cls, model: str | Path | None, risk: float) -> "Abstention":
        """Find the lowest threshold that keeps a risk on the validation speakers of a model.

        Args:
            model: as for `ser_tf.load`, or an export to LiteRT.
            risk: share of errors among the answers, 0 to 1.

        Raises:
            UserError: no threshold keeps this risk; there are too few recordings; or their predictions are missing.
        """
        if not 0 <= risk <= 1:
            raise UserError(f"risk: expected a share of the answers, from 0 to 1. Received: risk={risk:g}")
        path = predictions_of(model)
        sides = {side: read_side(path, side) for side in ("validation", "test")}
        answers = {side: confidence_and_hit(rows, emotions) for side, (emotions, rows) in sides.items()}
        threshold = lowest_threshold(*answers["validation"], risk)
        return cls(
            risk,
            threshold,
            **{
                side: _outcome(*answers[side], rows["speaker"].nunique(), threshold)
                for side, (_, rows) in sides.items()
            },
        )

    def abstains(self, probability: float) -> bool:
        """Whether an emotion of this probability is below the threshold."""
        return probability < self.threshold

    def __str__(self) -> str:
        """The threshold, its effect and its limits, in one line."""
        abstains = f"abstains below a probability of {self.threshold:.4f}"
        if self.threshold == 0:
            abstains = f"never abstains, since all answers together keep a risk of {self.risk:g}"
        return (
            f"{abstains}. Validation speakers ({self.validation.speakers}): {self.validation}; this may be optimistic, "
            "since they also chose the temperature and, in some runs, the epoch and the SVM's parameters. "
            f"Test speakers ({self.test.speakers}), not used for any choice: {self.test}"
        )


def lowest_threshold(confidence: np.ndarray, hit: np.ndarray, risk: float) -> float:
    """Find the lowest threshold that keeps a risk.

    Args:
        confidence: float [N], the probability of each predicted emotion.
        hit: bool [N], whether it is the true one.
        risk: maximum share of errors among predictions whose confidence is not below the threshold.

    Returns:
        One of the confidences; 0 if all may be answered.

    Raises:
        UserError: no threshold keeps the risk and answers at least `FEWEST_ANSWERED` recordings.
    """
    if len(hit) < FEWEST_ANSWERED:
        raise UserError(
            f"risk: expected at least {FEWEST_ANSWERED} validation recordings to choose a threshold with. "
            f"Received: {len(hit)}; omit --risk"
        )
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    answered = np.arange(1, len(order) + 1)
    risks = np.cumsum(~hit[order]) / answered
    possible = np.append(falling[:-1] > falling[1:], True) & (answered >= FEWEST_ANSWERED)  # equals stay together
    kept = np.flatnonzero(possible & (risks <= risk))
    if not len(kept):
        least = np.flatnonzero(possible)[risks[possible].argmin()]
        raise UserError(
            f"risk: expected at least {math.ceil(1000 * risks[least]) / 1000:.3f}, the lowest that this run reaches on "
            f"its validation speakers ({answered[least]} of {len(hit)} recordings answered). Received: risk={risk:g}"
        )
    return 0.0 if kept[-1] == len(order) - 1 else float(falling[kept[-1]])


def _outcome(confidence: np.ndarray, hit: np.ndarray, speakers: int, threshold: float) -> Outcome:
    answered = confidence >= threshold
    risk = float(1 - hit[answered].mean()) if answered.any() else None
    return Outcome(len(hit), speakers, float(answered.mean()), risk)
