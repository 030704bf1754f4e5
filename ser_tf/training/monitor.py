"""Watches a metric loss during training: triplets per batch, distances of embeddings, collapse.

```python
loss = EmotionTripletLoss(polarities)
model.compile(optimizer, loss={"embedding": loss}, metrics={"embedding": metric_monitors(loss)})
model.fit(batches, callbacks=[CollapseMonitor(loss)])
```
"""

import warnings
from typing import Any, Self

import keras
from keras import ops

from ser_tf.errors import UserError
from ser_tf.network.losses import AnchorLoss, anchor_losses, check_batch
from ser_tf.network.mining import Tensor, squared_distances

QUANTITIES = {
    "first_term_share": "share of anchors whose batch has the samples that the first term needs",
    "second_term_share": "share of anchors whose batch has the samples that the second term needs",
    "violated_share": "share of anchors with a violated triplet, among anchors with a term",
    "positive_distance": "mean squared distance of an anchor to its positives",
    "negative_distance": "mean squared distance of an anchor to its negatives",
    "spread": "mean squared distance of embeddings to their batch's mean; 0 if all are equal, at most 1 on the sphere",
    "collapse_ratio": "the loss, divided by its value for equal embeddings: the margins in force",
}
"""Name and meaning of each metric."""


class CollapseWarning(UserWarning):
    """The embeddings collapse to one point."""


def metric_monitors(loss: AnchorLoss) -> list[keras.metrics.Metric]:
    """One metric for each of `QUANTITIES` that the loss has; pass the list to `compile` for the loss's output.

    TensorFlow's graph computes the shared parts once.
    """
    absent = {"second_term_share"} if len(loss.margins) == 1 else set()
    return [MetricMonitor(loss, quantity) for quantity in QUANTITIES if quantity not in absent]


@keras.saving.register_keras_serializable(package="ser_tf")
class MetricMonitor(keras.metrics.Mean):
    """Mean of one of `QUANTITIES` over the anchors of an epoch.

    Args:
        loss: the loss to watch; it defines positives, negatives, margins and mining.
        quantity: a key of `QUANTITIES`.
        name: name in logs; the quantity by default.

    Raises:
        UserError: an unknown quantity.

    Example (two of three points have a positive):

    >>> share = MetricMonitor(TripletLoss(), "first_term_share")
    >>> share.update_state([0, 0, 1], [[0.0], [1.0], [2.0]])
    >>> round(float(share.result()), 2)
    0.67
    """

    def __init__(self, loss: AnchorLoss, quantity: str, name: str | None = None) -> None:
        super().__init__(name=name or quantity, dtype="float32")
        if quantity not in QUANTITIES:
            raise UserError(f"quantity: expected one of {', '.join(QUANTITIES)}. Received: quantity={quantity!r}")
        self.loss = loss
        self.quantity = quantity

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: None = None) -> None:
        """Add a batch: class numbers [B] or [B, 1] and embeddings [B, E]. Sample weights are ignored."""
        values, weights = _measure(self.quantity, self.loss, *check_batch(y_true, y_pred))
        super().update_state(values, sample_weight=weights)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"loss": keras.saving.serialize_keras_object(self.loss), "quantity": self.quantity, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The metric that `get_config` described."""
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


class CollapseMonitor(keras.callbacks.Callback):
    """Warns once each time training collapses.

    If all embeddings are equal, the loss equals the margins in force: 0.25 for a polar anchor of the emotion triplet
    loss, 0.1 for a plain one. Training has collapsed if, for `patience_epochs` in a row, both hold:

    - two embeddings are on average nearer than `closeness` times the sum of the margins;
    - the loss is not below that level by `tolerance`. Hard mining approaches the level from above as the space shrinks.

    The loss is not enough: mining 'all' averages over violations, and stays near the level in healthy training from
    random weights. The callback reads the logs of `metric_monitors`.

    Args:
        loss: the loss to watch.
        tolerance: share of the level by which a healthy loss is below it.
        closeness: share of the margins below which the mean distance of two embeddings is too small.
        patience_epochs: epochs before it warns, since a network also starts near collapse.
    """

    def __init__(
        self, loss: AnchorLoss, tolerance: float = 0.1, closeness: float = 0.25, patience_epochs: int = 2
    ) -> None:
        super().__init__()
        self.loss = loss
        self.tolerance = tolerance
        self.closeness = closeness
        self.patience_epochs = patience_epochs
        self._collapsed_epochs = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Warn if this is the last of `patience_epochs` collapsed epochs.

        Raises:
            UserError: the logs lack the metrics of `metric_monitors`.
        """
        ratio, spread = (_logged(logs or {}, quantity) for quantity in ("collapse_ratio", "spread"))
        mean_distance = 2 * spread  # squared, between two random embeddings of the batch
        collapsed = ratio >= 1 - self.tolerance and mean_distance < self.closeness * sum(self.loss.margins)
        self._collapsed_epochs = self._collapsed_epochs + 1 if collapsed else 0
        if self._collapsed_epochs == self.patience_epochs:
            warnings.warn(
                f"epoch {epoch + 1}: the embeddings collapse: the metric loss is {ratio:.0%} of its value for equal "
                f"embeddings, and the mean distance of two embeddings is {mean_distance:.3f} where the margins "
                f"ask for {sum(self.loss.margins):g}. Lower the learning rate, use mining 'all', set softmax_weight "
                "above 0, or start from the weights of a softmax strategy (S3).",
                CollapseWarning,
                stacklevel=1,  # the command line shows this project's own warnings only
            )


def _measure(quantity: str, loss: AnchorLoss, labels: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """One value and one weight per anchor; their weighted mean is the quantity."""
    terms = loss.terms(labels)
    distances = squared_distances(embeddings)
    everyone = ops.ones_like(distances[:, 0])
    if quantity == "first_term_share":
        return _as_float(terms[0].present), everyone
    if quantity == "second_term_share":
        return _as_float(terms[1].present), everyone
    if quantity == "violated_share":
        hinges, valid = anchor_losses(distances, terms, mining="hard")  # if any triplet is violated, the hardest is
        return _as_float(hinges > 0), _as_float(valid)
    if quantity == "positive_distance":
        return _mean_distance(distances, terms[0].nearer)
    if quantity == "negative_distance":
        return _mean_distance(distances, terms[-1].farther)
    if quantity == "spread":
        return ops.sum(ops.square(embeddings - ops.mean(embeddings, axis=0)), axis=1), everyone
    losses, _ = anchor_losses(distances, terms, loss.mining)
    collapsed_losses = sum(_as_float(term.present) * term.margin for term in terms)
    return ops.divide_no_nan(losses, collapsed_losses), collapsed_losses


def _mean_distance(distances: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance of each anchor to its marked samples; anchors without such samples have weight 0."""
    count = ops.sum(_as_float(to), axis=1)
    return ops.divide_no_nan(ops.sum(distances * _as_float(to), axis=1), count), _as_float(count > 0)


def _as_float(mask: Tensor) -> Tensor:
    return ops.cast(mask, "float32")


def _logged(logs: dict[str, float], quantity: str) -> float:
    """A training metric from the logs; with several outputs Keras prefixes it with the output's name."""
    for name, value in logs.items():
        if name.endswith(quantity) and not name.startswith("val_"):
            return value
    raise UserError(
        f"logs: expected the metric {quantity}; add metric_monitors(loss) to compile(metrics=...). "
        f"Received: {', '.join(logs) or 'no logs'}"
    )
