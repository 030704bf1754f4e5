"""The sides of a fold: whose recordings they are, and that nobody and nothing is heard on two of them."""

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
"""Speakers that a line names."""


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
        """These utterances, with the place of each one's emotion among `emotions`."""
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
        received = f"{len(reasons)} that are not, such as {reasons[0]}" if reasons else "none"
        raise UserError(
            f"{corpus.root}: expected readable recordings of {', '.join(speakers)}. Received: {received}; mend them "
            "or take these speakers out of the folds"
        )
    return Side.of(speech, corpus.emotions)


def without_contradictions(corpus: Corpus, prepared: PreparedSpeech) -> tuple[Corpus, PreparedSpeech]:
    """Leave out recordings that the corpus has under two emotions, each with a warning: neither label can be trusted.

    Args:
        corpus: where the utterances come from; one opened with `keep_excluded` is returned as it is.
        prepared: their speech.

    Returns:
        The corpus, whose `exclusions` name what is left out and why, and the speech of the others.
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
    """Refuse sides of which two have a speaker, under whatever name or spelling, or a recording in common.

    Args:
        sides: name of each side -> its recordings.
        where: what the message begins with: corpus and fold.

    Raises:
        UserError: they have; the line names both recordings.
    """
    _refuse_twice(sides, f"{where}: expected each speaker on one side", _voices, "which are of one speaker")
    refuse_shared_recordings(sides, where)


def refuse_shared_recordings(sides: Mapping[str, Sequence[SpeechFile]], where: str) -> None:
    """Refuse sides of which two have a recording in common; for the arguments see `refuse_shared`.

    Raises:
        UserError: they have; the line names both recordings.
    """
    _refuse_twice(
        sides,
        f"{where}: expected each recording on one side",
        lambda file: [file.sample_hash],
        "which are one recording",
    )


def require_emotions(side: Side, name: str, corpus: Corpus, where: str) -> None:
    """Refuse a side from which a classifier cannot learn every emotion of the corpus.

    Args:
        side: the side.
        name: "training" or "validation".
        corpus: tells the emotions.
        where: what the message begins with: corpus and fold.

    Raises:
        UserError: an emotion is missing; the line names it and the speakers.
    """
    missing = [emotion for index, emotion in enumerate(corpus.emotions) if index not in side.labels]
    if missing:
        speakers = sorted({file.utterance.speaker for file in side.speech})
        named = ", ".join(speakers[:_NAMED]) + (f" and {len(speakers) - _NAMED} more" if speakers[_NAMED:] else "")
        raise UserError(
            f"{where}: expected {name} speakers with utterances of every emotion. Received: {named} without "
            f"{', '.join(missing)}; choose other folds, give a file of your own (--folds) with others on this side, or "
            "leave the emotion out of the corpus"
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
                        f"{who.speaker} ({side}), {why}; mend the names, or take one of the two out"
                    )
