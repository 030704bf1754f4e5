"""RAVDESS speech: 24 actors, 8 emotions (Livingstone and Russo 2018, doi 10.5281/zenodo.1188976).

A name is `MM-VV-EE-II-SS-RR-AA`: modality, channel, emotion, intensity, statement, repetition, actor. Utterances have
modality 03 (audio only) and channel 01 (speech); videos and song are left out.
"""

import re
from itertools import product

from ser_tf.corpora.kind import CorpusFacts, CorpusKind
from ser_tf.errors import UserError

NAME = "ravdess"
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Emotion code 01 to 08 in this order."""

_NAME = re.compile(r"03-01-(?P<emotion>\d\d)-\d\d-\d\d-\d\d-(?P<actor>\d\d)", re.ASCII)
_NAME_OF_ANY_KIND = re.compile(r"0[123]-0[12](-\d\d){4}-(?P<actor>\d\d)", re.ASCII)
_NEUTRAL = 1
_ACTORS = range(1, 25)


def parse(name: str) -> tuple[str, str] | None:
    """Speaker and emotion of an utterance; None if it is no RAVDESS speech.

    Raises:
        UserError: the emotion code is not 01 to 08.

    Example:
        >>> parse("03-01-05-01-02-01-12")
        ('ravdess:12', 'angry')
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    code = int(match["emotion"])
    if not 1 <= code <= len(EMOTIONS):
        raise UserError(f"expected an emotion code from 01 to {len(EMOTIONS):02d}. Received: {match['emotion']}")
    return f"{NAME}:{match['actor']}", EMOTIONS[code - 1]


def speaker_of(name: str) -> str | None:
    """The actor of any recording, also of song and of videos; None if RAVDESS has no such name."""
    match = _NAME_OF_ANY_KIND.fullmatch(name)
    return f"{NAME}:{match['actor']}" if match else None


def published_names() -> frozenset[str]:
    """Names of the 1440 utterances: 60 of each actor; neutral has no strong intensity."""
    codes = range(1, len(EMOTIONS) + 1)
    intensities = statements = repetitions = (1, 2)
    return frozenset(
        f"03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
        for emotion, intensity, statement, repetition, actor in product(
            codes, intensities, statements, repetitions, _ACTORS
        )
        if not (emotion == _NEUTRAL and intensity == 2)
    )


CORPUS = CorpusKind(
    name=NAME,
    written="RAVDESS",
    facts=CorpusFacts(
        title="RAVDESS speech (Livingstone and Russo 2018, doi 10.5281/zenodo.1188976)",
        licence="CC BY-NC-SA 4.0",
        terms="no commercial use; name the authors; share alike",
        speech="24 professional actors, 12 women and 12 men of 21 to 33 years, speak two sentences in North American "
        "English with acted emotion, in a studio",
    ),
    emotions=EMOTIONS,
    parse=parse,
    speaker_of=speaker_of,
    published_names=published_names,
    published_rate_hz=48_000,
    exclusions={"03-01-03-01-02-02-07": "the same recording as 03-01-03-01-02-01-07, which is kept"},
    known_faults=("Five files are stereo.",),
    sex_of={f"{actor:02d}": ("female", "male")[actor % 2] for actor in _ACTORS}.get,
)
