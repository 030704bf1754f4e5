"""SAVEE: 4 English men, 7 emotions (Haq and Jackson 2010).

A file is `DC/a01` or `DC_a01`: speaker, emotion, number. The second form is the utterance's name.
"""

import re
from itertools import product
from pathlib import PurePath

from ser_tf.corpora.kind import CorpusFacts, CorpusKind, parse_by

NAME = "savee"

_CODES = {
    "n": "neutral",
    "h": "happy",
    "sa": "sad",
    "a": "angry",
    "f": "fearful",
    "d": "disgust",
    "su": "surprised",
}
_SPEAKERS = ("DC", "JE", "JK", "KL")
_TAKE = re.compile(rf"(?:{'|'.join(_CODES)})\d\d", re.ASCII)
_NAME = re.compile(rf"(?P<speaker>{'|'.join(_SPEAKERS)})_(?P<emotion>{'|'.join(_CODES)})\d\d", re.ASCII)


def name_of(path: PurePath) -> str:
    """Name of an utterance, whose file may lie in the speaker's folder.

    Example:
        >>> name_of(PurePath("AudioData/DC/su04.wav"))
        'DC_su04'
    """
    folder = path.parent.name
    return f"{folder}_{path.stem}" if folder in _SPEAKERS and _TAKE.fullmatch(path.stem) else path.stem


def published_names() -> frozenset[str]:
    """Names of the 480 utterances: 15 per speaker and emotion, and 30 for neutral."""
    return frozenset(
        f"{speaker}_{code}{number:02d}"
        for speaker, code in product(_SPEAKERS, _CODES)
        for number in range(1, 31 if code == "n" else 16)
    )


CORPUS = CorpusKind(
    name=NAME,
    written="SAVEE",
    facts=CorpusFacts(
        title="SAVEE (Haq and Jackson 2010)",
        licence="research only, on registration with the publisher",
        terms="research only; name the authors; each user registers with the publisher",
        speech="4 men speak sentences in British English with acted emotion",
    ),
    emotions=tuple(_CODES.values()),
    parse=parse_by(NAME, _NAME, _CODES),
    name_of=name_of,
    published_names=published_names,
    published_rate_hz=44_100,
    known_faults=(
        "360 files have an offset above 0.01 of full scale.",
        "27 files have more than 1 % of their samples at full scale.",
    ),
    sex_of=lambda speaker: "male" if speaker in _SPEAKERS else None,
)
