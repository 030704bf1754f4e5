"""In-batch mining: the samples that an anchor is compared with, and by how much they violate the margin."""

from typing import Any, NamedTuple, get_args, get_type_hints

from keras import ops

from ser_tf.config import LossConfig
from ser_tf.errors import UserError

Tensor = Any
"""A tensor of the current Keras backend."""

MINING_MODES: tuple[str, ...] = get_args(get_type_hints(LossConfig)["mining"])


class Term(NamedTuple):
    """A requirement on every anchor: its `nearer` samples lie nearer than its `farther` ones, by the margin."""

    nearer: Tensor
    """Boolean [B, B]; row a marks the samples that belong near anchor a."""
    farther: Tensor
    """Boolean [B, B]; row a marks the samples that belong farther away."""
    margin: float
    """Squared distance."""

    @property
    def present(self) -> Tensor:
        """Boolean [B]: whether the batch holds samples of both kinds for an anchor."""
        return ops.logical_and(ops.any(self.nearer, axis=1), ops.any(self.farther, axis=1))


def check_mining(mining: str) -> None:
    """Refuse an unknown mining mode.

    Raises:
        UserError: `mining` is not one of `MINING_MODES`.
    """
    if mining not in MINING_MODES:
        raise UserError(f"mining: expected one of {', '.join(MINING_MODES)}. Received: mining={mining!r}")


def squared_distances(embeddings: Tensor) -> Tensor:
    """Squared L2 distance between every two embeddings (paper, eq. 3), without a square root.

    It squares differences instead of using a matrix product: equal embeddings are exactly 0 apart, and no accelerator
    shortens the mantissa. It needs B * B * E floats: 16 MiB for 32 embeddings of 4096.

    Args:
        embeddings: [B, E] of any float type.

    Returns:
        float32 [B, B].
    """
    embeddings = ops.cast(embeddings, "float32")
    differences = ops.expand_dims(embeddings, 1) - ops.expand_dims(embeddings, 0)  # [B, B, E]
    return ops.sum(ops.square(differences), axis=-1)


def mined_hinge(distances: Tensor, term: Term, mining: str) -> tuple[Tensor, Tensor]:
    """How far each anchor's triplets violate one term: `[D(a, nearer) - D(a, farther) + margin]+`.

    - `hard`: the farthest `nearer` sample and the nearest `farther` one.
    - `semihard`: a random `nearer` sample, and the nearest `farther` sample beyond it; if none lies beyond, the
      farthest. The last digits of the distances serve as random numbers: they change with every batch and need no
      state, so the draw is the same after a resume, under `jit`, and in a metric beside the loss.
    - `all`: the mean over all violating triplets, 0 if none violates.

    Args:
        distances: float32 [B, B], from `squared_distances`.
        term: the samples to compare.
        mining: one of `MINING_MODES`.

    Returns:
        hinge: float32 [B], 0 where the term is absent.
        present: boolean [B], whether the batch holds the term's samples for an anchor.

    Raises:
        UserError: an unknown mining mode.
    """
    check_mining(mining)
    present = term.present
    if mining == "all":
        return _mean_violation(distances, term), present
    if mining == "hard":
        near = _distance_of_best(distances, term.nearer, score=distances)
        far = _distance_of_best(distances, term.farther, score=-distances)
    else:
        near = _distance_of_best(distances, term.nearer, score=_last_digits(distances))
        beyond = ops.logical_and(term.farther, distances > ops.expand_dims(near, 1))
        nearest_beyond = _distance_of_best(distances, beyond, score=-distances)
        farthest = _distance_of_best(distances, term.farther, score=distances)
        far = ops.where(ops.any(beyond, axis=1), nearest_beyond, farthest)
    return ops.where(present, ops.relu(near - far + term.margin), 0.0), present


def _mean_violation(distances: Tensor, term: Term) -> Tensor:
    violation = ops.expand_dims(distances, 2) - ops.expand_dims(distances, 1) + term.margin  # [B, nearer, farther]
    triplets = ops.logical_and(ops.expand_dims(term.nearer, 2), ops.expand_dims(term.farther, 1))
    # "not <= 0" keeps NaN, which "> 0" would hide.
    violated = ops.logical_and(triplets, ops.logical_not(violation <= 0.0))
    total = ops.sum(ops.where(violated, violation, 0.0), axis=(1, 2))
    count = ops.sum(ops.cast(violated, "float32"), axis=(1, 2))
    return total / ops.maximum(count, 1.0)


def _distance_of_best(distances: Tensor, allowed: Tensor, score: Tensor) -> Tensor:
    """Distance [B] to the allowed sample with the highest score; to any sample if none is allowed."""
    best = ops.argmax(ops.where(allowed, score, -float("inf")), axis=1)
    return ops.squeeze(ops.take_along_axis(distances, ops.expand_dims(best, 1), axis=1), axis=1)


def _last_digits(distances: Tensor) -> Tensor:
    """Evenly spread numbers in [0, 1): the digits after the fourth decimal of a distance."""
    return ops.mod(distances * 1e4, 1.0)
