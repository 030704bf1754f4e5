"""Abstention: where the probability is low, the emotion is told but not answered for.

The threshold is the lowest that keeps a stated risk, the share of errors among what is answered, on the run's
validation speakers (Geifman and El-Yaniv 2017, without their bound, which needs recordings that chose nothing).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ser_tf.errors import UserError
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.predictions import confidence_and_hit, read_side
from ser_tf.serving.predict import PREDICTIONS, exported_version, is_portable

FEWEST_ANSWERED = 30
"""A threshold that answers fewer validation recordings is not taken: 30 without an error may still hide a risk of a
tenth, by the rule of three (3 / 30)."""


@dataclass(frozen=True)
class Outcome:
    """What a threshold does to recordings whose emotion is known.

    Attributes:
        recordings: their number.
        speakers: theirs.
        coverage: the share that is answered.
        risk: the share of errors among those; None where none is answered.
    """

    recordings: int
    speakers: int
    coverage: float
    risk: float | None

    def __str__(self) -> str:
        """In words."""
        told = f"{100 * self.coverage:.1f} % answered"
        return told if self.risk is None else f"{told}, {100 * self.risk:.1f} % of those wrongly"


@dataclass(frozen=True)
class Abstention:
    """A threshold, and what it comes to.

    Example:
        >>> abstention = Abstention.for_risk("runs/mine", 0.3)  # doctest: +SKIP
        >>> abstention.abstains(recogniser("clip.wav").probability)  # doctest: +SKIP
        False

    Attributes:
        risk: what was asked for.
        threshold: the lowest probability that is answered.
        validation: the recordings that chose the threshold.
        test: recordings that chose nothing.
    """

    risk: float
    threshold: float
    validation: Outcome
    test: Outcome

    @classmethod
    def for_risk(cls, run: str | Path, risk: float) -> "Abstention":
        """The lowest threshold of a run, or of its export, that keeps a risk on the run's validation speakers.

        Args:
            run: folder of a finished run, of an export in any format, or of one version of a SavedModel.
            risk: share of errors among the answered, 0 to 1.

        Raises:
            UserError: no threshold keeps this risk; there are too few recordings; or their predictions are not there.
        """
        if not 0 <= risk <= 1:
            raise UserError(f"risk: expected a share of the answers, from 0 to 1. Received: risk={risk:g}")
        path = _predictions_of(Path(run))
        sides = {side: read_side(path, side) for side in ("validation", "test")}
        judged = {side: confidence_and_hit(rows, emotions) for side, (emotions, rows) in sides.items()}
        threshold = lowest_threshold(*judged["validation"], risk)
        return cls(
            risk,
            threshold,
            **{
                side: _outcome(*judged[side], rows["speaker"].nunique(), threshold) for side, (_, rows) in sides.items()
            },
        )

    def abstains(self, probability: float) -> bool:
        """Whether an emotion of this probability is not answered for."""
        return probability < self.threshold

    def __str__(self) -> str:
        """What a user has to know about the threshold, in a line."""
        abstains = f"abstains below a probability of {self.threshold:.4f}"
        if self.threshold == 0:
            abstains = f"abstains from nothing, since all answers together keep a risk of {self.risk:g}"
        return (
            f"{abstains}. Validation speakers ({self.validation.speakers}): "
            f"{self.validation}; but they also chose the epoch, the temperature and an SVM's parameters, and so may "
            f"tell too low a risk. Test speakers ({self.test.speakers}), who chose nothing: {self.test}"
        )


def lowest_threshold(confidence: np.ndarray, hit: np.ndarray, risk: float) -> float:
    """The lowest threshold that keeps a risk.

    Args:
        confidence: float [N], the probability of each predicted emotion.
        hit: bool [N], whether it is the true one.
        risk: share of errors among those whose confidence is not below the threshold.

    Returns:
        One of the confidences; 0 where all may be answered.

    Raises:
        UserError: there is none that answers at least `FEWEST_ANSWERED` recordings.
    """
    if len(hit) < FEWEST_ANSWERED:
        raise UserError(
            f"risk: expected at least {FEWEST_ANSWERED} validation recordings to choose a threshold with. "
            f"Received: {len(hit)}; leave --risk out"
        )
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    answered = np.arange(1, len(order) + 1)
    risks = np.cumsum(~hit[order]) / answered
    possible = np.append(falling[:-1] > falling[1:], True) & (answered >= FEWEST_ANSWERED)  # equals go together
    kept = np.flatnonzero(possible & (risks <= risk))
    if not len(kept):
        least = np.flatnonzero(possible)[risks[possible].argmin()]
        raise UserError(
            f"risk: expected at least {math.ceil(1000 * risks[least]) / 1000:.3f}, the least that this run reaches on "
            f"its validation speakers ({answered[least]} of {len(hit)} recordings answered). Received: risk={risk:g}"
        )
    return 0.0 if kept[-1] == len(order) - 1 else float(falling[kept[-1]])


def _outcome(confidence: np.ndarray, hit: np.ndarray, speakers: int, threshold: float) -> Outcome:
    answered = confidence >= threshold
    risk = float(1 - hit[answered].mean()) if answered.any() else None
    return Outcome(len(hit), speakers, float(answered.mean()), risk)


def _predictions_of(run: Path) -> Path:
    if is_portable(run):
        return run / PREDICTIONS
    version = exported_version(run)
    if version is None:
        folder = RunFolder(run)
        folder.require_finished()
        return folder.predictions
    path = version / "assets" / PREDICTIONS
    if not path.is_file():
        raise UserError(f"{path}: expected the predictions of the run, which older exports lack; export it again")
    return path
