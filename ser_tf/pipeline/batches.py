"""The utterances of each training batch: a pure function of seed and epoch (no TensorFlow)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ser_tf.errors import UserError


def epoch_batches(
    labels: Sequence[str] | np.ndarray,
    speakers: Sequence[str] | np.ndarray,
    *,
    batch_size: int,
    batches: Literal["plain", "balanced", "corpora"],
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Deal the batches of one epoch; no utterance occurs twice in a batch.

    - `plain`: a permutation; its first utterances fill the last batch.
    - `balanced`: every batch holds every label. Seats are dealt evenly, the remainder by rotation (32 seats among 6
      emotions: 6 x 5 + 2). The utterances of a label are shuffled, and again when all have been used; in each batch a
      label has at least two speakers.
    - `corpora`: seats are dealt evenly to the corpora, and those of a corpus to its labels, the remainders by rotation.

    Args:
        labels: [N], the emotion of each utterance, as name or number.
        speakers: [N], the speaker of each, as `corpus:id`.
        batch_size: seats of each batch.
        batches: the way of dealing.
        seed: seed of the training.
        epoch: number of the epoch, from 0.

    Returns:
        int32 [ceil(N / batch_size), batch_size], rows of utterance numbers.

    Raises:
        UserError: fewer utterances than seats; unless batches are plain, too few seats, or a label with too few
            utterances or, in balanced batches, only one speaker.
    """
    labels, speakers = np.asarray(labels), np.asarray(speakers)
    if len(labels) < batch_size:
        raise UserError(
            f"batch_size: expected at most the number of training utterances, {len(labels)}. "
            f"Received: batch_size={batch_size}"
        )
    steps = -(-len(labels) // batch_size)
    generator = np.random.default_rng([seed, epoch])
    if batches == "plain":
        order = generator.permutation(len(labels))
        return np.resize(order, (steps, batch_size)).astype(np.int32)  # `resize` repeats from the start
    if batches == "balanced":
        dealt = _balanced(labels, speakers, steps, batch_size, generator)
    else:
        dealt = _by_corpora(labels, speakers, steps, batch_size, generator)
    return generator.permuted(dealt, axis=1)  # devices get slices of a batch, which must not hold one emotion only


def _balanced(
    labels: np.ndarray, speakers: np.ndarray, steps: int, batch_size: int, generator: np.random.Generator
) -> np.ndarray:
    names = np.unique(labels)
    if batch_size < 2 * len(names):
        raise UserError(
            f"batch_size: expected at least {2 * len(names)}, two seats for each of {len(names)} emotions. "
            f"Received: batch_size={batch_size}"
        )
    decks = [_Deck(np.flatnonzero(labels == name), speakers, generator) for name in names]
    for name, deck in zip(names, decks, strict=True):
        deck.check(name, most_seats=-(-batch_size // len(names)))
        deck.check_speakers(name)
    turns = _Turns(len(names), generator)
    batches = np.empty((steps, batch_size), np.int32)
    for step in range(steps):
        batches[step] = _dealt(decks, turns.seats(batch_size))
    return batches


def _by_corpora(
    labels: np.ndarray, speakers: np.ndarray, steps: int, batch_size: int, generator: np.random.Generator
) -> np.ndarray:
    corpus_of = np.array([speaker.partition(":")[0] for speaker in speakers])
    corpora = np.unique(corpus_of)
    most_seats = -(-batch_size // len(corpora))
    decks: list[list[_Deck]] = []
    for corpus in corpora:
        names = np.unique(labels[corpus_of == corpus])
        decks.append(
            [_Deck(np.flatnonzero((corpus_of == corpus) & (labels == name)), speakers, generator) for name in names]
        )
        for name, deck in zip(names, decks[-1], strict=True):
            deck.check(f"{name} of {corpus}", most_seats=-(-most_seats // len(names)))
    turns = _Turns(len(corpora), generator)
    turns_of_each = [_Turns(len(of_corpus), generator) for of_corpus in decks]
    batches = np.empty((steps, batch_size), np.int32)
    for step in range(steps):
        seats = turns.seats(batch_size)
        hands = (_dealt(decks[place], turns_of_each[place].seats(count)) for place, count in enumerate(seats))
        batches[step] = np.concatenate(list(hands))
    return batches


class _Turns:
    """Deals seats evenly among players, and the remainder by rotation."""

    def __init__(self, players: int, generator: np.random.Generator):
        self._players = players
        self._next = int(generator.integers(players))

    def seats(self, count: int) -> np.ndarray:
        """Each player's number of `count` seats, int [players]."""
        base, remainder = divmod(count, self._players)
        turns = (self._next + np.arange(remainder)) % self._players
        self._next = (self._next + remainder) % self._players
        return base + np.isin(np.arange(self._players), turns)


def _dealt(decks: list["_Deck"], seats: np.ndarray) -> np.ndarray:
    return np.concatenate([deck.deal(count) for deck, count in zip(decks, seats, strict=True)]).astype(np.int32)


class _Deck:
    """The utterances of one label, dealt in random order and shuffled again when used up."""

    def __init__(self, utterances: np.ndarray, speakers: np.ndarray, generator: np.random.Generator):
        self._utterances = utterances
        self._speakers = speakers
        self._generator = generator
        self._has_several_speakers = len(set(speakers[utterances])) > 1
        self._waiting: list[int] = []

    def check(self, name: str | int, most_seats: int) -> None:
        if len(self._utterances) < most_seats:
            raise UserError(
                f"emotion {name}: expected at least {most_seats} training utterances, so that none occurs twice "
                f"in a balanced batch. Received: {len(self._utterances)}; lower batch_size or choose plain batches"
            )

    def check_speakers(self, name: str | int) -> None:
        if not self._has_several_speakers:
            raise UserError(
                f"emotion {name}: expected at least two speakers in the training part. "
                f"Received: {self._speakers[self._utterances[0]]} only; choose plain batches or add speakers"
            )

    def deal(self, seats: int) -> list[int]:
        """The first waiting utterances; if all have one speaker, the last seat goes to a different speaker."""
        hand: list[int] = []
        while len(hand) < seats:
            speakers = {self._speakers[utterance] for utterance in hand}
            is_last = len(hand) == seats - 1
            barred = speakers if is_last and len(speakers) == 1 and self._has_several_speakers else set()
            fitting = (u for u in self._waiting if u not in hand and self._speakers[u] not in barred)
            utterance = next(fitting, None)
            if utterance is None:
                self._waiting.extend(self._generator.permutation(self._utterances).tolist())
            else:
                self._waiting.remove(utterance)
                hand.append(utterance)
        return hand
