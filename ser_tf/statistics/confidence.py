"""Calibration of a strategy's probabilities, and its errors if it abstains at low confidence.

The confidence of a prediction is the probability of the predicted emotion. All numbers pool the utterances of all
speakers, folds and seeds.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from ser_tf.metrics import ReliabilityBin, calibration_error, reliability
from ser_tf.runs.predictions import confidence_and_hit
from ser_tf.statistics.table import PredictionTable

COVERAGE_STEPS = 100


@dataclass(frozen=True)
class Calibration:
    """How well confidence matches accuracy."""

    ece: float
    """Expected calibration error (Guo et al. 2017, eq. 3)."""
    auroc: float | None
    """Probability that a right answer is more confident than a wrong one; 0.5 if confidence does not predict errors,
    which a small calibration error does not rule out. None if all answers are right, or none."""
    curve: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class RiskCoverage:
    """Errors if the least confident utterances are left out (Geifman and El-Yaniv 2017)."""

    area: float
    """Mean risk over all coverages, 1 / N to 1: 0 is perfect, 1 - WA means that confidence does not predict errors."""
    coverage: list[float]
    """Share of utterances answered, the most confident first: about 0.01, 0.02, ... 1."""
    risk: list[float]
    """Share of errors among them."""
    threshold: list[float]
    """Lowest confidence among them."""


def calibration(table: PredictionTable, strategy: str) -> Calibration:
    """Reliability curve and calibration error of a strategy."""
    confidence, hit = _confidence_and_hit(table, strategy)
    curve = reliability(confidence, hit)
    auroc = float(roc_auc_score(hit, confidence)) if 0 < hit.sum() < len(hit) else None
    return Calibration(calibration_error(curve), auroc, curve)


def risk_coverage(table: PredictionTable, strategy: str) -> RiskCoverage:
    """Risk against coverage of a strategy.

    Utterances of equal confidence have no order: each counts with their mean error.
    """
    confidence, hit = _confidence_and_hit(table, strategy)
    error = pd.Series(1.0 - hit).groupby(confidence).transform("mean").to_numpy()
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    risk = np.cumsum(error[order]) / answered
    steps = np.unique(np.ceil(np.arange(1, COVERAGE_STEPS + 1) * len(order) / COVERAGE_STEPS).astype(int)) - 1
    return RiskCoverage(
        area=float(risk.mean()),
        coverage=(answered[steps] / len(order)).tolist(),
        risk=risk[steps].tolist(),
        threshold=confidence[order][steps].tolist(),
    )


def _confidence_and_hit(table: PredictionTable, strategy: str) -> tuple[np.ndarray, np.ndarray]:
    """Float and bool [N], in the order of the rows."""
    return confidence_and_hit(table.of(strategy).rows, table.emotions)
