"""EMOVO: 6 Italian actors, 7 emotions (Costantini et al. 2014).

A name is `dis-f1-b1`: emotion, speaker (f1 to f3, m1 to m3), sentence.
"""

import re

NAME = "emovo"
EMOTIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")

_CODES = {
    "neu": "neutral",
    "gio": "happy",
    "tri": "sad",
    "rab": "angry",
    "pau": "fearful",
    "dis": "disgust",
    "sor": "surprised",
}
_NAME = re.compile(rf"(?P<emotion>{'|'.join(_CODES)})-(?P<speaker>[fm][1-3])-[a-z]\d", re.ASCII)


def parse(stem: str) -> tuple[str, str] | None:
    """Speaker and emotion of a file name without suffix; None when it is none of EMOVO's.

    Example:
        >>> parse("dis-f1-b1")
        ('emovo:f1', 'disgust')
    """
    match = _NAME.fullmatch(stem)
    return (f"{NAME}:{match['speaker']}", _CODES[match["emotion"]]) if match else None


def speaker_of(stem: str) -> str | None:
    """The speaker of a recording; None when the name is none of EMOVO's."""
    parsed = parse(stem)
    return parsed[0] if parsed else None
