"""Embeddings or logits -> distribution over emotions; stored without pickle.

Every classifier ends with class scores times an inverse temperature, through a softmax. The largest score is the
emotion.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.svm import SVC

from ser_tf.documents import LARGEST_JSON_BYTES, misfit, parse_json, read_bounded
from ser_tf.errors import UserError, quoted, shortened
from ser_tf.metrics import unweighted_average_recall
from ser_tf.pairwise_svm import PairwiseSvm, coupled, votes

SEARCHED_C = (0.1, 1.0, 10.0, 100.0)
SEARCHED_GAMMA_FACTORS = (0.25, 1.0, 4.0)
"""Factors on scikit-learn's gamma='scale'."""
SLOPE = 3.0
"""Of the sigmoid that all pairs of an SVM share; fitted slopes were no better on other speakers."""
EPOCH_C = 10.0
"""C of the SVM that scores an epoch, with gamma='scale' (paper, section 5)."""
KERNEL_CACHE_MEGABYTES = 1000

COUPLING = "pairwise coupling"
"""The `confidence` in an SVM's `classifier.json`; older files have none, and their SVMs count votes."""
LARGEST_FACTOR = 1e6
"""Of slope and inverse temperature; older versions fitted up to 22,026."""


@dataclass(frozen=True)
class Classifier:
    """Classifies the emotion of an utterance.

    Attributes:
        emotions: the C class names, in order.
        inverse_temperature: factor on the scores before the softmax.
        svm: an RBF SVM on embeddings [N, E]; None if the network's logits are the scores.
        slope: of the sigmoid that turns a margin of the SVM into a probability; None if it counts votes, as in older
            runs.
    """

    emotions: tuple[str, ...]
    inverse_temperature: float
    svm: PairwiseSvm | None = None
    slope: float | None = None

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Distribution over the emotions, float64 [N, C].

        Args:
            features: embeddings [N, E] for an SVM, logits [N, C] otherwise.
        """
        return softmax(self.inverse_temperature * self._scores(features), axis=1)

    def _scores(self, features: np.ndarray) -> np.ndarray:
        if self.svm is None:
            return features.astype("float64")
        margins = self.svm.margins(features)
        return votes(margins) if self.slope is None else coupled(margins, self.slope)

    def save(self, folder: Path) -> None:
        """Write `classifier.json`, and `svm.npz` if there is an SVM.

        The SVM must have a slope; SVMs that count votes can only be read.
        """
        about: dict[str, Any] = {"kind": "softmax", "emotions": list(self.emotions)}
        if self.svm is not None:
            self.svm.save(folder / "svm.npz")
            (folder / "svm.skops").unlink(missing_ok=True)  # left by an older version
            about |= {"kind": "svm", "confidence": COUPLING, "slope": self.slope}
        about["inverse_temperature"] = self.inverse_temperature
        (folder / "classifier.json").write_text(json.dumps(about, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Read the files of `save` or of an older version (`svm.skops`); nothing in them is executed.

        Raises:
            UserError: a file is missing or damaged, or the files do not fit together.
        """
        try:
            about = parse_json(read_bounded(folder / "classifier.json", LARGEST_JSON_BYTES))
            problem = _problem_of(about)
            if problem:
                raise ValueError(f"classifier.json: {problem}")
            emotions, factor = tuple(about["emotions"]), float(about["inverse_temperature"])
            if about["kind"] == "softmax":
                return cls(emotions, factor)
            if about.get("confidence") == COUPLING:
                svm, slope = PairwiseSvm.load(folder / "svm.npz"), float(about["slope"])
            else:
                svm, slope = PairwiseSvm.load_skops(folder / "svm.skops"), None
            if svm.classes != len(emotions):
                raise ValueError(f"classifier.json names {len(emotions)} emotions, and the SVM knows {svm.classes}")
            return cls(emotions, factor, svm, slope)
        except Exception as error:
            reason = shortened(" ".join(f"{type(error).__name__}: {error}".split()))
            raise UserError(
                f"{folder}: expected a classifier written by ser-tf (classifier.json, and svm.npz or svm.skops); "
                f"{reason}. Restore the files, or remove the folder and train again"
            ) from error


def fit_svm(
    embeddings: np.ndarray,
    labels: np.ndarray,
    validation_embeddings: np.ndarray,
    validation_labels: np.ndarray,
    emotions: Sequence[str],
) -> tuple[Classifier, dict[str, float]]:
    """Fit the RBF SVM on training speakers; choose C, gamma and the temperature on validation speakers.

    Args:
        embeddings: float [N, E] of the training speakers.
        labels: int [N].
        validation_embeddings: float [V, E].
        validation_labels: int [V].
        emotions: the C names, in class order.

    Returns:
        The classifier, and the chosen `c` and `gamma` with their `validation_uar`. Ties go to the smallest C.

    Raises:
        UserError: a training or validation side lacks an emotion.
    """
    require_every_emotion(labels, emotions, "training")
    require_every_emotion(validation_labels, emotions, "validation")
    distances = euclidean_distances(embeddings, squared=True)
    validation_distances = euclidean_distances(validation_embeddings, embeddings, squared=True)
    best: tuple[Classifier, dict[str, float]] | None = None
    for c in SEARCHED_C:
        for gamma in np.multiply(SEARCHED_GAMMA_FACTORS, scale_gamma(embeddings)).tolist():
            svm = _svc(c).fit(np.exp(-gamma * distances), labels)
            scores = coupled(_margins(svm, np.exp(-gamma * validation_distances)), SLOPE)
            uar = unweighted_average_recall(validation_labels, scores.argmax(axis=1))
            if best is None or uar > best[1]["validation_uar"]:
                numbers = PairwiseSvm.of(svm, gamma, embeddings[svm.support_])
                factor = fit_inverse_temperature(scores, validation_labels)
                classifier = Classifier(tuple(emotions), factor, numbers, SLOPE)
                best = classifier, {"c": c, "gamma": gamma, "validation_uar": uar}
    assert best is not None
    return best


def epoch_uar(
    embeddings: np.ndarray, labels: np.ndarray, validation_embeddings: np.ndarray, validation_labels: np.ndarray
) -> float:
    """UAR on the validation speakers of an RBF SVM with C = 10 and gamma = 'scale' (paper, section 5)."""
    gamma = scale_gamma(embeddings)
    svm = _svc(EPOCH_C).fit(np.exp(-gamma * euclidean_distances(embeddings, squared=True)), labels)
    distances = euclidean_distances(validation_embeddings, embeddings, squared=True)
    scores = coupled(_margins(svm, np.exp(-gamma * distances)), SLOPE)
    return unweighted_average_recall(validation_labels, scores.argmax(axis=1))


def scale_gamma(embeddings: np.ndarray) -> float:
    """scikit-learn's gamma='scale' for embeddings [N, E]; 1 if all are equal."""
    variance = float(embeddings.var())
    return 1 / (embeddings.shape[1] * variance) if variance > 0 else 1.0


def fit_softmax(logits: np.ndarray, labels: np.ndarray, emotions: Sequence[str]) -> Classifier:
    """A classifier on the network's logits [V, C]; the temperature is fitted on these validation speakers."""
    require_every_emotion(labels, emotions, "validation")
    return Classifier(tuple(emotions), fit_inverse_temperature(logits, labels))


def fit_inverse_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The factor on the scores that maximises the likelihood of the labels (Guo et al. 2017), from e^-5 to e^3.

    Without errors it would grow without limit, and a softmax of very large scores fails in 8 bits.

    Args:
        scores: float [N, C].
        labels: int [N].
    """
    scores = scores.astype("float64")

    def loss(logarithm: float) -> float:
        return -float(log_softmax(np.exp(logarithm) * scores, axis=1)[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 3), options={"xatol": 1e-9}).x))


def require_every_emotion(labels: np.ndarray, emotions: Sequence[str], side: str) -> None:
    """Refuse a side of a fold that lacks an emotion.

    Args:
        labels: int [N].
        emotions: the C names, in class order.
        side: "training" or "validation".

    Raises:
        UserError: an emotion is missing; the message names it.
    """
    missing = [emotion for index, emotion in enumerate(emotions) if index not in labels]
    if missing:
        raise UserError(
            f"{side} speakers: expected utterances of every emotion; none of {', '.join(missing)}. "
            "Choose another fold or complete the corpus"
        )


def _problem_of(about: Any) -> str:
    """The problem in the content of `classifier.json`; empty without one."""
    problem = misfit(about, {"kind": str, "emotions": [str]})
    if problem:
        return problem
    kind, confidence = about["kind"], about.get("confidence")
    if (kind, confidence) not in (("softmax", None), ("svm", None), ("svm", COUPLING)):
        return f"expected a softmax, or an svm with {COUPLING}. Received: {quoted(kind)} with {quoted(confidence)}"
    emotions = about["emotions"]
    if len(emotions) < 2 or len(set(emotions)) < len(emotions) or not all(map(_is_name, emotions)):
        return f"expected two emotions or more, each once. Received: {quoted(emotions)}"
    factors = ("inverse_temperature",) if confidence is None else ("inverse_temperature", "slope")
    problem = misfit(about, dict.fromkeys(factors, float))
    if problem:
        return problem
    wrong = [name for name in factors if not 0 < about[name] <= LARGEST_FACTOR]
    return f"{wrong[0]}: expected a number above 0. Received: {quoted(about[wrong[0]])}" if wrong else ""


def _is_name(emotion: str) -> bool:
    return emotion.isprintable() and bool(emotion.strip())


def _svc(c: float) -> SVC:
    """An SVM on a kernel from one matrix product: the same result, many times faster than libsvm's rows."""
    return SVC(kernel="precomputed", C=c, decision_function_shape="ovo", cache_size=KERNEL_CACHE_MEGABYTES)


def _margins(svm: SVC, kernel: np.ndarray) -> np.ndarray:
    """Margins [N, P] with the signs of `PairwiseSvm.margins`; with two classes scikit-learn's favour the second."""
    margins = svm.decision_function(kernel)
    return margins if margins.ndim == 2 else -margins[:, None]
