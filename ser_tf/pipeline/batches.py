"""Which utterances stand together in a training batch: a pure function of seed and epoch (no TensorFlow)."""

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
    """Deal the batches of one epoch; no utterance stands twice in a batch.

    A plain epoch is a permutation, whose last batch is filled up from its own start. In a balanced one every batch
    holds every label: the seats are dealt evenly and the remainder by rotation (32 seats among 6 emotions: 6 x 5 + 2).
    The utterances of a label come in shuffled order and are shuffled again when all had their turn; each label shows at
    least two speakers in each batch. With `corpora` the seats are dealt evenly to the corpora, and those of a corpus to
    its labels, each time by rotation.

    Args:
        labels: [N], the emotion of each utterance, as name or number.
        speakers: [N], who speaks, as `corpus:id`.
        batch_size: seats of each batch.
        batches: how they are dealt.
        seed: seed of the training.
        epoch: number of the epoch, from 0.

    Returns:
        int32 [ceil(N / batch_size), batch_size], rows of utterance numbers.

    Raises:
        UserError: fewer utterances than seats; and unless batches are plain, too few seats, or a label that has too few
            utterances or, in balanced batches, one speaker only.
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
        return np.resize(order, (steps, batch_size)).astype(np.int32)  # `resize` goes on from the start
    if batches == "balanced":
        dealt = _balanced(labels, speakers, steps, batch_size, generator)
    else:
        dealt = _by_corpora(labels, speakers, steps, batch_size, generator)
    return generator.permuted(dealt, axis=1)  # several devices take slices of a batch, which must not be one emotion


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
    """Deals seats evenly among players, and what is left by rotation."""

    def __init__(self, players: int, generator: np.random.Generator):
        self._players = players
        self._next = int(generator.integers(players))

    def seats(self, count: int) -> np.ndarray:
        """How many of `count` seats each player gets, int [players]."""
        base, remainder = divmod(count, self._players)
        turns = (self._next + np.arange(remainder)) % self._players
        self._next = (self._next + remainder) % self._players
        return base + np.isin(np.arange(self._players), turns)


def _dealt(decks: list["_Deck"], seats: np.ndarray) -> np.ndarray:
    return np.concatenate([deck.deal(count) for deck, count in zip(decks, seats, strict=True)]).astype(np.int32)


class _Deck:
    """The utterances of one label, dealt in shuffled order and shuffled again when they run out."""

    def __init__(self, utterances: np.ndarray, speakers: np.ndarray, generator: np.random.Generator):
        self._utterances = utterances
        self._speakers = speakers
        self._generator = generator
        self._has_several_speakers = len(set(speakers[utterances])) > 1
        self._waiting: list[int] = []

    def check(self, name: str | int, most_seats: int) -> None:
        if len(self._utterances) < most_seats:
            raise UserError(
                f"emotion {name}: expected at least {most_seats} training utterances, so that none stands twice "
                f"in a balanced batch. Received: {len(self._utterances)}; lower batch_size or choose plain batches"
            )

    def check_speakers(self, name: str | int) -> None:
        if not self._has_several_speakers:
            raise UserError(
                f"emotion {name}: expected at least two speakers in the training part. "
                f"Received: {self._speakers[self._utterances[0]]} only; choose plain batches or add speakers"
            )

    def deal(self, seats: int) -> list[int]:
        """Take the first utterances that wait; where all are of one speaker, the last seat goes to another one."""
        hand: list[int] = []
        while len(hand) < seats:
            heard = {self._speakers[utterance] for utterance in hand}
            is_last = len(hand) == seats - 1
            barred = heard if is_last and len(heard) == 1 and self._has_several_speakers else set()
            fitting = (u for u in self._waiting if u not in hand and self._speakers[u] not in barred)
            utterance = next(fitting, None)
            if utterance is None:
                self._waiting.extend(self._generator.permutation(self._utterances).tolist())
            else:
                self._waiting.remove(utterance)
                hand.append(utterance)
        return hand
