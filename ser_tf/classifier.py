"""From embeddings or logits to a distribution over emotions; stored without pickle.

Both kinds end alike: class scores times one inverse temperature, through a softmax. The emotion is the largest score.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import skops.io
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.svm import SVC

from ser_tf.errors import UserError
from ser_tf.metrics import unweighted_average_recall

SEARCHED_C = (0.1, 1.0, 10.0, 100.0)
SEARCHED_GAMMA_FACTORS = (0.25, 1.0, 4.0)
"""Times scikit-learn's gamma='scale'."""
EPOCH_C = 10.0
"""C of the SVM that scores an epoch, with gamma='scale' (method, section 5)."""
KERNEL_CACHE_MEGABYTES = 1000


@dataclass(frozen=True)
class Classifier:
    """Names the emotion of an utterance.

    Attributes:
        emotions: the C class names, in order.
        inverse_temperature: factor on the scores before the softmax.
        svm: an RBF SVM on embeddings [N, E], or None where the network's own logits are the scores.
    """

    emotions: tuple[str, ...]
    inverse_temperature: float
    svm: SVC | None = None

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Distribution over the emotions, float64 [N, C].

        Args:
            features: embeddings [N, E] for an SVM, logits [N, C] otherwise.
        """
        scores = features if self.svm is None else decision_scores(self.svm, features)
        return softmax(self.inverse_temperature * scores.astype("float64"), axis=1)

    def save(self, folder: Path) -> None:
        """Write `classifier.json`, and `svm.skops` beside it when there is an SVM."""
        if self.svm is not None:
            skops.io.dump(self.svm, folder / "svm.skops")
        description = {
            "kind": "softmax" if self.svm is None else "svm",
            "emotions": list(self.emotions),
            "inverse_temperature": self.inverse_temperature,
        }
        (folder / "classifier.json").write_text(json.dumps(description, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Read what `save` wrote; nothing in the files is executed.

        Raises:
            UserError: a file is missing or damaged.
        """
        try:
            description = json.loads((folder / "classifier.json").read_text())
            svm = skops.io.load(folder / "svm.skops", trusted=[]) if description["kind"] == "svm" else None
            if not isinstance(svm, SVC | None):
                raise TypeError(f"svm.skops holds a {type(svm).__name__}")
            return cls(tuple(description["emotions"]), float(description["inverse_temperature"]), svm)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"{folder}: expected a classifier written by ser-tf (classifier.json, svm.skops); {reason}. "
                "Restore the files, or remove the folder and train again"
            ) from error


@dataclass(frozen=True)
class PairwiseSvm:
    """The numbers of a fitted RBF SVM, so that a graph can compute what scikit-learn's `decision_function` does.

    The margin of a pair of classes is `exp(-gamma * |x - support|^2) @ coefficients + intercepts`; above or at zero it
    speaks for the pair's first class, below for its second.

    Attributes:
        gamma: of the kernel.
        support: float64 [S, E], the support vectors.
        coefficients: float64 [S, P], a column per pair.
        intercepts: float64 [P].
        first: float64 [P, C], one-hot, the first class of each pair.
        second: float64 [P, C], the second.
    """

    gamma: float
    support: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, svm: SVC) -> "PairwiseSvm":
        """Rearrange what scikit-learn stores of an SVM from `fit_svm`.

        The support vectors are sorted by class. Row j - 1 of `dual_coef_` holds those of the lower class i against j,
        row i those of the higher class j against i; with two classes scikit-learn turns all signs.
        """
        classes = len(svm.classes_)
        pairs = list(combinations(range(classes), 2))
        class_of = np.repeat(np.arange(classes), svm.n_support_)
        coefficients = np.zeros((len(class_of), len(pairs)))
        for pair, (first, second) in enumerate(pairs):
            coefficients[:, pair] += np.where(class_of == first, svm.dual_coef_[second - 1], 0)
            coefficients[:, pair] += np.where(class_of == second, svm.dual_coef_[first], 0)
        sign = -1 if classes == 2 else 1
        one_hot = np.eye(classes)
        return cls(
            gamma=float(svm.gamma),
            support=svm.support_vectors_.astype("float64"),
            coefficients=sign * coefficients,
            intercepts=sign * svm.intercept_,
            first=one_hot[[first for first, _ in pairs]],
            second=one_hot[[second for _, second in pairs]],
        )


def fit_svm(
    embeddings: np.ndarray,
    labels: np.ndarray,
    validation_embeddings: np.ndarray,
    validation_labels: np.ndarray,
    emotions: Sequence[str],
) -> tuple[Classifier, dict[str, float]]:
    """Fit the RBF SVM on training actors; choose C, gamma and the temperature on validation actors.

    Args:
        embeddings: float [N, E] of the training actors.
        labels: int [N].
        validation_embeddings: float [V, E].
        validation_labels: int [V].
        emotions: the C names, in class order.

    Returns:
        The classifier, and what the search chose: `c`, `gamma`, `validation_uar`. Among equals the smallest C wins.

    Raises:
        UserError: a training or validation side lacks an emotion.
    """
    require_every_emotion(labels, emotions, "training")
    require_every_emotion(validation_labels, emotions, "validation")
    distances = euclidean_distances(embeddings, squared=True)
    validation_distances = euclidean_distances(validation_embeddings, embeddings, squared=True)
    scale = scale_gamma(embeddings)
    candidates = [(c, factor * scale) for c in SEARCHED_C for factor in SEARCHED_GAMMA_FACTORS]
    uars = [
        _precomputed_uar(distances, labels, validation_distances, validation_labels, c, gamma)
        for c, gamma in candidates
    ]
    best = int(np.argmax(uars))
    c, gamma = candidates[best]
    svm = _svc(kernel="rbf", c=c, gamma=gamma).fit(embeddings, labels)
    scores = decision_scores(svm, validation_embeddings)
    classifier = Classifier(tuple(emotions), fit_inverse_temperature(scores, validation_labels), svm)
    return classifier, {"c": c, "gamma": gamma, "validation_uar": uars[best]}


def epoch_uar(
    embeddings: np.ndarray, labels: np.ndarray, validation_embeddings: np.ndarray, validation_labels: np.ndarray
) -> float:
    """UAR on the validation actors of an RBF SVM with C = 10, gamma = 'scale' (method, section 5)."""
    distances = euclidean_distances(embeddings, squared=True)
    validation_distances = euclidean_distances(validation_embeddings, embeddings, squared=True)
    return _precomputed_uar(
        distances, labels, validation_distances, validation_labels, EPOCH_C, scale_gamma(embeddings)
    )


def scale_gamma(embeddings: np.ndarray) -> float:
    """What scikit-learn's gamma='scale' is for embeddings [N, E]; 1 where all of them are equal."""
    variance = float(embeddings.var())
    return 1 / (embeddings.shape[1] * variance) if variance > 0 else 1.0


def fit_softmax(logits: np.ndarray, labels: np.ndarray, emotions: Sequence[str]) -> Classifier:
    """A classifier on the network's own logits [V, C]; the temperature is fitted on these validation actors."""
    require_every_emotion(labels, emotions, "validation")
    return Classifier(tuple(emotions), fit_inverse_temperature(logits, labels))


def fit_inverse_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The one factor on the scores that makes the labels likeliest (Guo et al. 2017), by scikit-learn.

    Args:
        scores: float [N, C].
        labels: int [N], every class present.
    """
    everything = np.arange(len(labels))
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(_Scores().fit(scores, labels)),
        method="temperature",
        cv=[(everything, everything)],  # a frozen estimator learns nothing, so there is nothing to hold out
    )
    calibrated.fit(scores.astype("float64"), labels)
    return float(calibrated.calibrated_classifiers_[0].calibrators[0].beta_)


def decision_scores(svm: SVC, embeddings: np.ndarray) -> np.ndarray:
    """One score per class, [N, C], also where scikit-learn returns one column for two classes."""
    scores = svm.decision_function(embeddings)
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


def require_every_emotion(labels: np.ndarray, emotions: Sequence[str], side: str) -> None:
    """Refuse a side of a fold from which a classifier cannot learn every emotion.

    Args:
        labels: int [N].
        emotions: the C names, in class order.
        side: "training" or "validation".

    Raises:
        UserError: an emotion is missing; the line names it.
    """
    missing = [emotion for index, emotion in enumerate(emotions) if index not in labels]
    if missing:
        raise UserError(
            f"{side} speakers: expected utterances of every emotion; none of {', '.join(missing)}. "
            "Choose another fold or complete the corpus"
        )


class _Scores(ClassifierMixin, BaseEstimator):
    """An estimator whose scores are its input, for scikit-learn's calibration."""

    def fit(self, scores: np.ndarray, labels: np.ndarray) -> "_Scores":
        self.classes_ = np.arange(scores.shape[1])
        return self

    def decision_function(self, scores: np.ndarray) -> np.ndarray:
        """One column for two classes, x for the scores -x and x, as scikit-learn wants it."""
        return (scores[:, 1] - scores[:, 0]) / 2 if scores.shape[1] == 2 else scores

    def predict(self, scores: np.ndarray) -> np.ndarray:
        return scores.argmax(axis=1)


def _svc(kernel: str, c: float, gamma: float) -> SVC:
    return SVC(
        kernel=kernel,
        C=c,
        gamma=gamma,
        decision_function_shape="ovr",
        break_ties=True,
        cache_size=KERNEL_CACHE_MEGABYTES,
    )


def _precomputed_uar(
    distances: np.ndarray,
    labels: np.ndarray,
    validation_distances: np.ndarray,
    validation_labels: np.ndarray,
    c: float,
    gamma: float,
) -> float:
    """The kernel by one matrix product: the same machine, many times faster than libsvm's own rows."""
    svm = _svc("precomputed", c, gamma).fit(np.exp(-gamma * distances), labels)
    return unweighted_average_recall(validation_labels, svm.predict(np.exp(-gamma * validation_distances)))
