"""Losses: triplet (paper, eq. 4) and emotion triplet (eq. 5 to 7) with in-batch mining; additive-margin softmax;
cross-entropy with label smoothing.

Every sample of a batch is an anchor once. The functions return one value per anchor and which anchors count; the
classes average over those and go into `compile(loss=...)`. Everything runs in float32 on any Keras backend.
"""

from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

import keras
import numpy as np
from keras import ops

from ser_tf.config import LossConfig, PretrainingConfig, TrainingConfig
from ser_tf.errors import UserError
from ser_tf.network.mining import Tensor, Term, check_mining, mined_hinge, squared_distances

POLARITY_WORDS = ("negative", "positive", "neutral")
NEUTRAL_CHOICES: tuple[str, ...] = get_args(get_type_hints(LossConfig)["neutral"])


def triplet_loss(
    labels: Tensor,
    embeddings: Tensor,
    margin: float = LossConfig.alpha,
    mining: str = LossConfig.mining,
) -> tuple[Tensor, Tensor]:
    """Triplet loss of every anchor: `[D(a, p) - D(a, n) + margin]+` (paper, eq. 4).

    Positives p share the anchor's label, negatives n do not; D is the squared L2 distance.

    Args:
        labels: class numbers [B] or [B, 1], integers or floats that hold integers.
        embeddings: [B, E], of unit norm.
        margin: squared distance by which negatives should lie farther away than positives.
        mining: `hard`, `semihard` or `all`; see `ser_tf.network.mining.mined_hinge`.

    Returns:
        values: float32 [B], 0 for anchors that do not count.
        valid: boolean [B], the anchors that have a positive and a negative in the batch.

    Raises:
        UserError: an unknown mining mode, a margin that is not positive, or wrong shapes.

    Example (two classes on a line, at 0 and 1, and at 2):

    >>> values, valid = triplet_loss([0, 0, 1], [[0.0], [1.0], [2.0]], margin=0.5, mining="hard")
    >>> [float(value) for value in values], [bool(counts) for counts in valid]
    ([0.0, 0.5, 0.0], [True, True, False])

    The point at 0 has its positive at squared distance 1 and its negative at 4: the margin is kept. The point at 1 has
    both at 1 and violates the whole margin. The point at 2 has no positive and does not count.
    """
    _check_margins(margin=margin)
    labels, embeddings = check_batch(labels, embeddings)
    return anchor_losses(squared_distances(embeddings), _triplet_terms(labels, margin), mining)


def emotion_triplet_loss(
    labels: Tensor,
    embeddings: Tensor,
    polarities: Sequence[str],
    alpha: float = LossConfig.alpha,
    beta: float = LossConfig.beta,
    mining: str = LossConfig.mining,
    neutral: str = LossConfig.neutral,
) -> tuple[Tensor, Tensor]:
    """Emotion triplet loss of every anchor (paper, eq. 7).

    `[D(a, p) - D(a, r1) + alpha]+  +  [D(a, r2) - D(a, n) + beta]+` with positives p of the anchor's emotion, related
    r1, r2 of a different emotion of its polarity, and negatives n of the opposite polarity. A term counts if the batch
    holds its samples. An emotion without a related emotion in `polarities` uses the triplet loss with margin alpha
    against all other emotions.

    Args:
        labels: class numbers [B] or [B, 1], integers or floats that hold integers, each an index into `polarities`.
        embeddings: [B, E], of unit norm.
        polarities: `negative`, `positive` or `neutral` for every class.
        alpha: squared distance by which related samples should lie farther away than positives.
        beta: squared distance by which negatives should lie farther away than related samples.
        mining: `hard`, `semihard` or `all`; see `ser_tf.network.mining.mined_hinge`.
        neutral: role of neutral samples for an anchor with a polarity: `excluded` or `negative`.

    Returns:
        values: float32 [B], 0 for anchors that do not count.
        valid: boolean [B], the anchors that have at least one term.

    Raises:
        UserError: an unknown mining mode, polarity or choice for neutral, a margin that is not positive, or wrong
            shapes.

    Example (sad at 0 and 1, angry at 2, happy at 3):

    >>> values, valid = emotion_triplet_loss(
    ...     [0, 0, 1, 2], [[0.0], [1.0], [2.0], [3.0]], ["negative", "negative", "positive"], mining="hard"
    ... )
    >>> [round(float(value), 2) for value in values], [bool(counts) for counts in valid]
    ([0.0, 0.1, 3.15, 0.0], [True, True, True, False])

    The sad point at 1 has its positive and its related point at squared distance 1 and violates alpha. The angry point
    has no positive, but its related point at 4 should be nearer than its negative at 1: 4 - 1 + 0.15. The happy point
    has no positive and its emotion has no related one, so it does not count.
    """
    _check_margins(alpha=alpha, beta=beta)
    labels, embeddings = check_batch(labels, embeddings)
    terms = _emotion_terms(labels, class_relations(polarities, neutral), alpha, beta)
    return anchor_losses(squared_distances(embeddings), terms, mining)


def additive_margin_softmax(
    labels: Tensor,
    cosines: Tensor,
    margin: float = PretrainingConfig.margin,
    scale: float = PretrainingConfig.scale,
) -> Tensor:
    """Cross entropy over scaled cosines, with a margin subtracted from the true class (Wang et al. 2018, eq. 6).

    Args:
        labels: class numbers [B] or [B, 1], integers or floats that hold integers.
        cosines: [B, C], between an embedding and the direction of each class.
        margin: subtracted from the true class's cosine.
        scale: factor on all cosines.

    Returns:
        float32 [B].

    Raises:
        UserError: a margin below 0, a scale that is not positive, or wrong shapes.

    Example (the true class leads by 0.5, and a margin of 0.5 removes the lead: ln 2):

    >>> [round(float(value), 4) for value in additive_margin_softmax([0], [[0.5, 0.0]], margin=0.5, scale=10.0)]
    [0.6931]
    """
    _check_additive(margin, scale)
    labels, cosines = check_batch(labels, cosines)
    logits = scale * (cosines - margin * ops.one_hot(labels, cosines.shape[1]))
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def class_relations(polarities: Sequence[str], neutral: str = LossConfig.neutral) -> tuple[np.ndarray, np.ndarray]:
    """Related and negative classes of each class.

    Args:
        polarities: `negative`, `positive` or `neutral` for each of K classes.
        neutral: role of neutral classes for a class with a polarity: `excluded` or `negative`.

    Returns:
        related: boolean [K, K]; row a marks the other classes with the polarity of class a, none for neutral.
        negative: boolean [K, K]; row a marks the classes of opposite polarity, or every other class if class a has no
            related one.

    Raises:
        UserError: no classes, or an unknown polarity or choice for neutral.
    """
    names = np.array(polarities)
    if names.ndim != 1 or not names.size or not np.isin(names, POLARITY_WORDS).all():
        raise UserError(
            f"polarities: expected one of {', '.join(POLARITY_WORDS)} for every class. "
            f"Received: polarities={polarities!r}"
        )
    if neutral not in NEUTRAL_CHOICES:
        raise UserError(f"neutral: expected one of {', '.join(NEUTRAL_CHOICES)}. Received: neutral={neutral!r}")
    same_polarity = names[:, None] == names[None, :]
    other = ~np.eye(len(names), dtype=bool)
    polar = names != "neutral"
    related = same_polarity & other & polar[:, None]
    opposite = ~same_polarity & ((neutral == "negative") | polar[None, :])
    return related, np.where(related.any(axis=1, keepdims=True), opposite, other)


def check_batch(labels: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Labels as int32 [B] and embeddings as float32 [B, E].

    Raises:
        UserError: labels not of shape [B] or [B, 1], or embeddings not of shape [B, E].
    """
    labels, embeddings = ops.convert_to_tensor(labels), ops.convert_to_tensor(embeddings)
    if len(embeddings.shape) != 2:
        raise UserError(
            f"embeddings: expected the shape [batch, size]. Received: embeddings of shape {tuple(embeddings.shape)}"
        )
    if len(labels.shape) != 1 and (len(labels.shape) != 2 or labels.shape[1] != 1):
        raise UserError(
            "labels: expected class numbers of shape [batch] or [batch, 1], not one-hot. "
            f"Received: labels of shape {tuple(labels.shape)}"
        )
    return ops.reshape(ops.cast(labels, "int32"), (-1,)), ops.cast(embeddings, "float32")


def anchor_losses(distances: Tensor, terms: tuple[Term, ...], mining: str) -> tuple[Tensor, Tensor]:
    """Sum of the mined terms of every anchor, float32 [B], and whether it has at least one term, boolean [B]."""
    hinges, present = zip(*(mined_hinge(distances, term, mining) for term in terms), strict=True)
    return sum(hinges), ops.any(ops.stack(present), axis=0)


class AnchorLoss(keras.losses.Loss):
    """Base of the metric losses: the mean of `anchor_losses` over the anchors that have at least one term.

    `call` divides each anchor's value by the share of anchors that count, so Keras's mean over the batch is the mean
    over those anchors; without any it is 0, with zero gradients. Sample weights multiply the values but not the
    divisor, as in every Keras loss.
    """

    def __init__(self, mining: str, name: str) -> None:
        super().__init__(name=name, reduction="sum_over_batch_size", dtype="float32")
        check_mining(mining)
        self.mining = mining

    @property
    def margins(self) -> tuple[float, ...]:
        """The margin of each term; in a collapsed space an anchor with all terms has their sum as loss."""
        raise NotImplementedError

    def terms(self, labels: Tensor) -> tuple[Term, ...]:
        """The loss's terms for labels int32 [B]; positives come first, negatives last."""
        raise NotImplementedError

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Values [B]; their mean over the batch is the mean over the anchors that count, or 0 without any."""
        labels, embeddings = check_batch(y_true, y_pred)
        values, valid = anchor_losses(squared_distances(embeddings), self.terms(labels), self.mining)
        valid_share = ops.mean(ops.cast(valid, "float32"))
        return ops.divide_no_nan(values, valid_share)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor; the reduction is not one of them."""
        return {"mining": self.mining, "name": self.name}


@keras.saving.register_keras_serializable(package="ser_tf")
class TripletLoss(AnchorLoss):
    """Triplet loss with in-batch mining, averaged over the anchors that have a positive and a negative.

    For values without reduction call `triplet_loss`.

    Args:
        margin: squared distance by which negatives should lie farther away than positives.
        mining: `hard`, `semihard` or `all`; see `ser_tf.network.mining.mined_hinge`.
        name: name in logs.

    Call arguments:
        y_true: class numbers [B] or [B, 1].
        y_pred: embeddings [B, E], of unit norm.

    Raises:
        UserError: an unknown mining mode or a margin that is not positive.

    Example:

    >>> loss = TripletLoss(margin=0.5, mining="hard")
    >>> float(loss([0, 0, 1], [[0.0], [1.0], [2.0]]))  # values 0 and 0.5; the last point has no positive
    0.25
    """

    def __init__(
        self, margin: float = LossConfig.alpha, mining: str = LossConfig.mining, name: str = "triplet_loss"
    ) -> None:
        super().__init__(mining=mining, name=name)
        _check_margins(margin=margin)
        self.margin = margin

    @property
    def margins(self) -> tuple[float, ...]:
        """The margin."""
        return (self.margin,)

    def terms(self, labels: Tensor) -> tuple[Term, ...]:
        """One term: positives nearer than negatives."""
        return _triplet_terms(labels, self.margin)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"margin": self.margin, **super().get_config()}


@keras.saving.register_keras_serializable(package="ser_tf")
class EmotionTripletLoss(AnchorLoss):
    """Emotion triplet loss with in-batch mining, averaged over the anchors that have at least one term.

    For values without reduction call `emotion_triplet_loss`.

    Args:
        polarities: `negative`, `positive` or `neutral` for every class.
        alpha: squared distance by which related samples should lie farther away than positives.
        beta: squared distance by which negatives should lie farther away than related samples.
        mining: `hard`, `semihard` or `all`; see `ser_tf.network.mining.mined_hinge`.
        neutral: role of neutral samples for an anchor with a polarity: `excluded` or `negative`.
        name: name in logs.

    Call arguments:
        y_true: class numbers [B] or [B, 1], each an index into `polarities`.
        y_pred: embeddings [B, E], of unit norm.

    Raises:
        UserError: an unknown mining mode, polarity or choice for neutral, or a margin that is not positive.

    Example (a collapsed space: sad, sad, angry, happy at one point; happy has no positive and does not count):

    >>> loss = EmotionTripletLoss(["negative", "negative", "positive"], alpha=0.25, beta=0.5)
    >>> round(float(loss([0, 0, 1, 2], [[1.0]] * 4)), 4)  # (0.75 + 0.75 + 0.5) / 3: angry has only beta
    0.6667
    """

    def __init__(
        self,
        polarities: Sequence[str],
        alpha: float = LossConfig.alpha,
        beta: float = LossConfig.beta,
        mining: str = LossConfig.mining,
        neutral: str = LossConfig.neutral,
        name: str = "emotion_triplet_loss",
    ) -> None:
        super().__init__(mining=mining, name=name)
        _check_margins(alpha=alpha, beta=beta)
        self.polarities = polarities
        self.alpha = alpha
        self.beta = beta
        self.neutral = neutral
        self._relations = class_relations(polarities, neutral)

    @property
    def margins(self) -> tuple[float, ...]:
        """Alpha and beta."""
        return (self.alpha, self.beta)

    def terms(self, labels: Tensor) -> tuple[Term, ...]:
        """Two terms: positives nearer than related samples, and related samples nearer than negatives."""
        return _emotion_terms(labels, self._relations, self.alpha, self.beta)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "polarities": list(self.polarities),
            "alpha": self.alpha,
            "beta": self.beta,
            "neutral": self.neutral,
            **super().get_config(),
        }


@keras.saving.register_keras_serializable(package="ser_tf")
class AdditiveMarginSoftmax(keras.losses.Loss):
    """Additive-margin softmax on the cosines of `with_cosine_head`, averaged over the batch.

    Args:
        margin: subtracted from the true class's cosine.
        scale: factor on all cosines.
        name: name in logs.

    Call arguments:
        y_true: class numbers [B] or [B, 1].
        y_pred: cosines [B, C].

    Raises:
        UserError: a margin below 0, or a scale that is not positive.
    """

    def __init__(
        self,
        margin: float = PretrainingConfig.margin,
        scale: float = PretrainingConfig.scale,
        name: str = "additive_margin_softmax",
    ) -> None:
        super().__init__(name=name, reduction="sum_over_batch_size", dtype="float32")
        _check_additive(margin, scale)
        self.margin = margin
        self.scale = scale

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Values [B]."""
        return additive_margin_softmax(y_true, y_pred, self.margin, self.scale)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor; the reduction is not one of them."""
        return {"margin": self.margin, "scale": self.scale, "name": self.name}


@keras.saving.register_keras_serializable(package="ser_tf")
class SmoothedCrossEntropy(keras.losses.CategoricalCrossentropy):
    """Cross-entropy of class numbers and logits with label smoothing, averaged over the batch.

    Args:
        label_smoothing: share of each target spread evenly over all classes.
        name: name in logs.

    Call arguments:
        y_true: class numbers [B] or [B, 1].
        y_pred: logits [B, C].
    """

    def __init__(self, label_smoothing: float = TrainingConfig.label_smoothing, name: str = "cross_entropy") -> None:
        super().__init__(from_logits=True, label_smoothing=label_smoothing, name=name)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Values [B]."""
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        return super().call(ops.one_hot(labels, y_pred.shape[-1]), y_pred)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"label_smoothing": self.label_smoothing, "name": self.name}


def _triplet_terms(labels: Tensor, margin: float) -> tuple[Term, ...]:
    return (Term(nearer=_positives(labels), farther=ops.logical_not(_equal_pairs(labels)), margin=margin),)


def _emotion_terms(
    labels: Tensor, relations: tuple[np.ndarray, np.ndarray], alpha: float, beta: float
) -> tuple[Term, ...]:
    class_related, class_negative = relations
    # A class without related ones compares its positives with its negatives instead, and has no second term.
    class_next = np.where(class_related.any(axis=1, keepdims=True), class_related, class_negative)
    return (
        Term(nearer=_positives(labels), farther=_of_samples(class_next, labels), margin=alpha),
        Term(nearer=_of_samples(class_related, labels), farther=_of_samples(class_negative, labels), margin=beta),
    )


def _positives(labels: Tensor) -> Tensor:
    """Pairs of different samples with equal labels: boolean [B, B]."""
    itself = _equal_pairs(ops.arange(ops.shape(labels)[0]))
    return ops.logical_and(_equal_pairs(labels), ops.logical_not(itself))


def _equal_pairs(values: Tensor) -> Tensor:
    return ops.equal(ops.expand_dims(values, 1), ops.expand_dims(values, 0))


def _of_samples(of_classes: np.ndarray, labels: Tensor) -> Tensor:
    """A relation between classes [K, K] as a relation between samples [B, B]."""
    return ops.take(ops.take(ops.convert_to_tensor(of_classes), labels, axis=0), labels, axis=1)


def _check_margins(**margins: float) -> None:
    for name, margin in margins.items():
        if not margin > 0:
            raise UserError(f"{name}: expected a margin above 0. Received: {name}={margin}")


def _check_additive(margin: float, scale: float) -> None:
    if not (margin >= 0 and scale > 0):
        raise UserError(
            f"am_softmax: expected a margin of at least 0 and a scale above 0. Received: margin={margin}, scale={scale}"
        )
