"""Which utterances stand together in a training batch: a pure function of seed and epoch (no TensorFlow)."""

from collections.abc import Sequence

import numpy as np

from ser_tf.errors import UserError


def epoch_batches(
    labels: Sequence[str] | np.ndarray,
    speakers: Sequence[str] | np.ndarray,
    *,
    batch_size: int,
    balanced: bool,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Deal the batches of one epoch; no utterance stands twice in a batch.

    A plain epoch is a permutation, whose last batch is filled up from its own start. In a balanced one every batch
    holds every label: the seats are dealt evenly and the remainder by rotation (32 seats among 6 emotions: 6 x 5 + 2).
    The utterances of a label come in shuffled order and are shuffled again when all had their turn; each label shows at
    least two speakers in each batch.

    Args:
        labels: [N], the emotion of each utterance, as name or number.
        speakers: [N], who speaks.
        batch_size: seats of each batch.
        balanced: whether every batch holds every label.
        seed: seed of the training.
        epoch: number of the epoch, from 0.

    Returns:
        int32 [ceil(N / batch_size), batch_size], rows of utterance numbers.

    Raises:
        UserError: fewer utterances than seats; and for balanced batches, too few seats, or a label that has too few
            utterances or one speaker only.
    """
    labels, speakers = np.asarray(labels), np.asarray(speakers)
    if len(labels) < batch_size:
        raise UserError(
            f"batch_size: expected at most the number of training utterances, {len(labels)}. "
            f"Received: batch_size={batch_size}"
        )
    steps = -(-len(labels) // batch_size)
    generator = np.random.default_rng([seed, epoch])
    if balanced:
        return _balanced(labels, speakers, steps, batch_size, generator)
    order = generator.permutation(len(labels))
    return np.resize(order, (steps, batch_size)).astype(np.int32)  # `resize` goes on from the start


def _balanced(
    labels: np.ndarray, speakers: np.ndarray, steps: int, batch_size: int, generator: np.random.Generator
) -> np.ndarray:
    names = np.unique(labels)
    if batch_size < 2 * len(names):
        raise UserError(
            f"batch_size: expected at least {2 * len(names)}, two seats for each of {len(names)} emotions. "
            f"Received: batch_size={batch_size}"
        )
    base, remainder = divmod(batch_size, len(names))
    decks = [_Deck(np.flatnonzero(labels == name), speakers, generator) for name in names]
    for name, deck in zip(names, decks, strict=True):
        deck.check(name, most_seats=base + (remainder > 0))
    start = generator.integers(len(names))
    batches = np.empty((steps, batch_size), np.int32)
    for step in range(steps):
        turns = (start + step * remainder + np.arange(remainder)) % len(names)
        seats = base + np.isin(np.arange(len(names)), turns)
        batches[step] = np.concatenate([deck.deal(count) for deck, count in zip(decks, seats, strict=True)])
    return generator.permuted(batches, axis=1)  # several devices take slices of a batch, which must not be one emotion


class _Deck:
    """The utterances of one label, dealt in shuffled order and shuffled again when they run out."""

    def __init__(self, utterances: np.ndarray, speakers: np.ndarray, generator: np.random.Generator):
        self._utterances = utterances
        self._speakers = speakers
        self._generator = generator
        self._waiting: list[int] = []

    def check(self, name: str | int, most_seats: int) -> None:
        if len(self._utterances) < most_seats:
            raise UserError(
                f"emotion {name}: expected at least {most_seats} training utterances, so that none stands twice "
                f"in a balanced batch. Received: {len(self._utterances)}; lower batch_size or choose plain batches"
            )
        if len(set(self._speakers[self._utterances])) < 2:
            raise UserError(
                f"emotion {name}: expected at least two speakers in the training part. "
                f"Received: {self._speakers[self._utterances[0]]} only; choose plain batches or add speakers"
            )

    def deal(self, seats: int) -> list[int]:
        """Take the first utterances that wait; where all are of one speaker, the last seat goes to another one."""
        hand: list[int] = []
        while len(hand) < seats:
            heard = {self._speakers[utterance] for utterance in hand}
            barred = heard if len(hand) == seats - 1 and len(heard) == 1 else set()
            fitting = (u for u in self._waiting if u not in hand and self._speakers[u] not in barred)
            utterance = next(fitting, None)
            if utterance is None:
                self._waiting.extend(self._generator.permutation(self._utterances).tolist())
            else:
                self._waiting.remove(utterance)
                hand.append(utterance)
        return hand
