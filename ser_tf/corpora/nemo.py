"""nEMO: 9 Polish actors, 6 emotions (Christop 2024).

A name is `EB0_anger_1`: speaker, emotion, number.
"""

import re

NAME = "nemo"
EMOTIONS = ("neutral", "happy", "sad", "angry", "fearful", "surprised")

_CODES = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "surprise": "surprised",
}
_NAME = re.compile(rf"(?P<speaker>[A-Z]{{2}}\d)_(?P<emotion>{'|'.join(_CODES)})_\d+", re.ASCII)


def parse(stem: str) -> tuple[str, str] | None:
    """Speaker and emotion of a file name without suffix; None when it is none of nEMO's.

    Example:
        >>> parse("EB0_anger_1")
        ('nemo:EB0', 'angry')
    """
    match = _NAME.fullmatch(stem)
    return (f"{NAME}:{match['speaker']}", _CODES[match["emotion"]]) if match else None


def speaker_of(stem: str) -> str | None:
    """The speaker of a recording; None when the name is none of nEMO's."""
    parsed = parse(stem)
    return parsed[0] if parsed else None
