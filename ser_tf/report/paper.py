"""Numbers of the paper (Mocanu et al. 2021) as printed, and its contradictions.

Table 1, the folds, is scheme `published` of `folds.yaml`, with its two row labels corrected.
"""

from dataclasses import dataclass

CITATION = "Mocanu, Tapu and Zaharia, Sensors 2021, 21, 4233"

METHODS = {
    "S1": "SE-ResNet from random weights, softmax",
    "S2": "SE-ResNet with multi-stage training, softmax",
    "S3": "SE-ResNet with GhostVLAD, softmax",
    "S4": "GhostVLAD and triplet loss, SVM",
    "S5": "GhostVLAD and emotion constraint, SVM",
}


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy in percent over the ten folds of Table 2."""

    mean: float
    minimum: float
    maximum: float
    standard_deviation: float


TABLE_2: dict[str, dict[str, FoldAccuracy]] = {
    "ravdess": {
        "S1": FoldAccuracy(67.94, 63.95, 70.48, 2.33),
        "S2": FoldAccuracy(74.81, 71.93, 77.16, 1.61),
        "S3": FoldAccuracy(79.78, 76.96, 81.98, 1.68),
        "S4": FoldAccuracy(80.93, 78.42, 82.94, 1.41),
        "S5": FoldAccuracy(83.55, 81.22, 85.65, 1.33),
    },
    "crema_d": {
        "S1": FoldAccuracy(53.38, 49.25, 56.02, 2.12),
        "S2": FoldAccuracy(59.47, 56.24, 62.56, 1.89),
        "S3": FoldAccuracy(61.25, 59.38, 63.79, 1.31),
        "S4": FoldAccuracy(62.44, 59.86, 64.14, 1.25),
        "S5": FoldAccuracy(64.92, 62.85, 66.84, 1.16),
    },
}

HUMAN_ACCURACY = {"crema_d": 40.90}
"""Accuracy in percent of listeners who heard only the voice."""

TABLE_3: dict[str, dict[str, float]] = {
    "ravdess": {
        "Bhavan et al. 2019": 75.69,
        "Issa et al. 2020": 71.61,
        "Kumar et al. 2021": 79.67,
        "the paper's method": 83.35,
    },
    "crema_d": {
        "Kumar et al. 2021": 58.72,
        "Ghaleb et al. 2020": 59.01,
        "Huang et al. 2020": 61.53,
        "the paper's method": 64.92,
    },
}
"""Accuracy in percent of other methods, as the paper reports them."""

SLIPS = {
    "ravdess": (
        "Table 1 of the paper has its two row labels swapped: the row of 24 actors is RAVDESS. Corrected here.",
        "Fold 2 of the paper trains on actors 3-18; the pattern of the other folds would give 3-20.",
        "The paper never tests actors 19, 20 and 21, and tests 2, 4, 6, 8, 10, 12, 14, 16 and 24 twice.",
    ),
    "crema_d": (
        "Table 1 of the paper has its two row labels swapped: the row of 91 actors is CREMA-D. Corrected here.",
        "The paper never tests actor 82.",
    ),
}
"""Errors and gaps of Table 1."""

SLIPS_OF_TABLE_3 = {
    "ravdess": "The whole method's accuracy is 83.35 % in the paper's abstract and Table 3, and 83.55 % in Table 2.",
    "crema_d": "The stated gain of 3.49 over Huang et al. does not follow from the table: 64.92 - 61.53 is 3.39.",
}

CHOSEN = {"network.clusters": 8, "network.ghost_clusters": 2, "loss.alpha": 0.1, "loss.beta": 0.15}
"""The paper's choice after figures 10 and 11."""
