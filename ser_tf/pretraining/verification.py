"""Scores of speaker verification: how well similarities tell pairs of one speaker from pairs of two."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import det_curve

TARGET_PRIORS = (0.01, 0.05)
"""Of a same-speaker trial, in the detection costs of NIST's and VoxCeleb's evaluations."""


@dataclass(frozen=True)
class VerificationScores:
    """Error rates over all thresholds."""

    trials: int
    same_speaker: int
    """Trials of one speaker."""
    eer: float
    """Equal error rate: where misses and false alarms are equally frequent; 0.5 is chance."""
    min_dcf: dict[str, float]
    """By target prior: the lowest detection cost, both errors at cost 1. A system that ignores the sound costs 1."""


def verification(same: np.ndarray, scores: np.ndarray) -> VerificationScores:
    """Compute the error rates.

    Args:
        same: bool [N], whether a trial is of one speaker; both kinds must occur.
        scores: float [N], higher for one speaker; the NaN of a diverged network counts as 0.
    """
    alarms, misses, _ = det_curve(same, np.nan_to_num(scores))  # by rising threshold
    return VerificationScores(
        trials=len(same),
        same_speaker=int(same.sum()),
        eer=_equal_error_rate(np.append(1.0, alarms), np.append(0.0, misses)),  # 1 and 0: every trial is accepted
        min_dcf={
            str(prior): float(np.min(prior * misses + (1 - prior) * alarms) / min(prior, 1 - prior))
            for prior in TARGET_PRIORS
        },
    )


def _equal_error_rate(alarms: np.ndarray, misses: np.ndarray) -> float:
    """Where the line between the thresholds on both sides of the crossing has equal rates."""
    after = int(np.argmax(misses >= alarms))
    gap_before, gap_after = alarms[after - 1] - misses[after - 1], misses[after] - alarms[after]
    share = gap_before / (gap_before + gap_after)
    return float(misses[after - 1] + share * (misses[after] - misses[after - 1]))
