"""The sides of a fold (train, validation, test), and checks that they share no speaker and no recording."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ser_tf.corpora.corpus import Corpus, Utterance, contradictions
from ser_tf.corpora.speakers import identities
from ser_tf.errors import UserError
from ser_tf.pipeline import PreparedSpeech, SpeechFile
from ser_tf.spelling import voice

_NAMED = 3
"""Maximum number of speakers that a message names."""


@dataclass(frozen=True)
class Side:
    """The utterances of the train, validation or test side of a fold.

    Attributes:
        speech: one per utterance.
        labels: int32 [N], class numbers in the corpus's order.
    """

    speech: Sequence[SpeechFile]
    labels: np.ndarray

    @classmethod
    def of(cls, speech: Sequence[SpeechFile], emotions: Sequence[str]) -> "Side":
        """These utterances, labelled with the index of their emotion in `emotions`."""
        return cls(speech, np.array([emotions.index(item.utterance.emotion) for item in speech], "int32"))


def side_of(corpus: Corpus, prepared: PreparedSpeech, speakers: Sequence[str]) -> Side:
    """The readable utterances of these speakers.

    Raises:
        UserError: there are none.
    """
    wanted = set(speakers)
    speech = [item for item in prepared.items if item.utterance.speaker in wanted]
    if not speech:
        reasons = [reason for utterance, reason in prepared.failures if utterance.speaker in wanted]
        received = f"{len(reasons)} unreadable, such as {reasons[0]}" if reasons else "none"
        raise UserError(
            f"{corpus.root}: expected readable recordings of {', '.join(speakers)}. Received: {received}; repair "
            "them or remove these speakers from the folds"
        )
    return Side.of(speech, corpus.emotions)


def without_contradictions(corpus: Corpus, prepared: PreparedSpeech) -> tuple[Corpus, PreparedSpeech]:
    """Leave out recordings with two different emotion labels, each with a warning: neither label can be trusted.

    Args:
        corpus: the utterances; a corpus opened with `keep_excluded` is returned unchanged.
        prepared: their speech.

    Returns:
        The corpus, whose `exclusions` name the recordings left out and why, and the speech of the rest.
    """
    same: dict[int, list[Utterance]] = defaultdict(list)
    for item in prepared.items:
        same[item.sample_hash].append(item.utterance)
    found = contradictions(same.values())
    if corpus.keep_excluded or not found:
        return corpus, prepared
    for reason in dict.fromkeys(exclusion.reason for exclusion in found):
        warnings.warn(f"left out: {reason}", stacklevel=1)
    names = {exclusion.name for exclusion in found}
    return (
        replace(
            corpus,
            utterances=tuple(utterance for utterance in corpus.utterances if utterance.name not in names),
            exclusions=corpus.exclusions + found,
        ),
        replace(prepared, items=tuple(item for item in prepared.items if item.utterance.name not in names)),
    )


def refuse_shared(sides: Mapping[str, Sequence[SpeechFile]], where: str) -> None:
    """Refuse two sides that share a speaker, under any name or spelling, or a recording.

    Args:
        sides: name of each side -> its recordings.
        where: corpus and fold, which begin the message.

    Raises:
        UserError: two sides share one; the message names both recordings.
    """
    _refuse_twice(sides, f"{where}: expected each speaker on one side", _voices, "of the same speaker")
    refuse_shared_recordings(sides, where)


def refuse_shared_recordings(sides: Mapping[str, Sequence[SpeechFile]], where: str) -> None:
    """Refuse two sides that share a recording; for the arguments see `refuse_shared`.

    Raises:
        UserError: two sides share one; the message names both recordings.
    """
    _refuse_twice(
        sides,
        f"{where}: expected each recording on one side",
        lambda file: [file.sample_hash],
        "the same recording",
    )


def require_emotions(side: Side, name: str, corpus: Corpus, where: str) -> None:
    """Refuse a side that lacks an emotion of the corpus.

    Args:
        side: the side.
        name: "training" or "validation".
        corpus: the corpus, with its emotions.
        where: corpus and fold, which begin the message.

    Raises:
        UserError: an emotion is missing; the message names it and the speakers.
    """
    missing = [emotion for index, emotion in enumerate(corpus.emotions) if index not in side.labels]
    if missing:
        speakers = sorted({file.utterance.speaker for file in side.speech})
        named = ", ".join(speakers[:_NAMED]) + (f" and {len(speakers) - _NAMED} more" if speakers[_NAMED:] else "")
        raise UserError(
            f"{where}: expected {name} speakers with utterances of every emotion. Received: {named} without "
            f"{', '.join(missing)}; choose other folds, write your own (--scheme-file) with other speakers on this "
            "side, or leave the emotion out (--emotions)"
        )


@cache
def _names_of(utterance: Utterance) -> frozenset[str]:
    return frozenset(map(voice, identities(utterance)))


def _voices(file: SpeechFile) -> frozenset[str]:
    return _names_of(file.utterance)


def _refuse_twice(
    sides: Mapping[str, Sequence[SpeechFile]],
    expected: str,
    keys_of: Callable[[SpeechFile], Iterable[Hashable]],
    why: str,
) -> None:
    first: dict[Hashable, tuple[str, Utterance]] = {}
    for side, files in sides.items():
        for file in files:
            who = file.utterance
            for key in keys_of(file):
                other_side, other = first.setdefault(key, (side, who))
                if other_side != side:
                    raise UserError(
                        f"{expected}. Received: {other.path} of {other.speaker} ({other_side}) and {who.path} of "
                        f"{who.speaker} ({side}), {why}; correct the names, or remove one of the two"
                    )
