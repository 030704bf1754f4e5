"""CREMA-D: 91 actors, 6 emotions (Cao et al. 2014, https://github.com/CheyneyComputerScience/CREMA-D).

A name is `AAAA_SSS_EEE_LL`: actor, sentence, emotion, and level LO, MD, HI or XX (not given).
"""

import re
from itertools import product

from ser_tf.errors import UserError

NAME = "crema_d"
EMOTIONS = ("angry", "disgust", "fearful", "happy", "neutral", "sad")
"""Emotion code ANG, DIS, FEA, HAP, NEU, SAD in this order."""

RENAMED = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}
"""One name of an older release -> today's."""

_CODES = dict(zip(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), EMOTIONS, strict=True))
_NAME = re.compile(r"(?P<actor>1\d{3})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_(LO|MD|HI|XX)", re.ASCII)
_ACTORS = range(1001, 1092)
_SENTENCES = ("DFA", "IEO", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI")
_SENTENCE_WITH_LEVELS = "IEO"
# Recordings that the publisher never had: 91 * (5 * 14 + 12) = 7462 names, 20 of them absent.
_ABSENT_IN_ALL_EMOTIONS = ("1008_WSI", "1009_MTI", "1019_ITH")
_ABSENT = ("1002_TIE_NEU_XX", "1076_ITS_NEU_XX")


def parse(stem: str) -> tuple[str, str] | None:
    """Speaker and emotion of a file name without suffix; None when it is no CREMA-D utterance.

    Raises:
        UserError: the emotion code is unknown.

    Example:
        >>> parse("1001_DFA_ANG_XX")
        ('crema_d:1001', 'angry')
    """
    match = _NAME.fullmatch(RENAMED.get(stem, stem))
    if match is None:
        return None
    code = match["emotion"]
    if code not in _CODES:
        raise UserError(f"expected one of the emotion codes {', '.join(_CODES)}. Received: {code}")
    return f"{NAME}:{match['actor']}", _CODES[code]


def published_names() -> frozenset[str]:
    """Names of the 7442 utterances: one sentence is acted at three levels except for neutral, the others at one."""
    names = {
        f"{actor}_{sentence}_{code}_{level}"
        for actor, sentence, code in product(_ACTORS, _SENTENCES, _CODES)
        for level in (("LO", "MD", "HI") if sentence == _SENTENCE_WITH_LEVELS and code != "NEU" else ("XX",))
    }
    absent = {f"{take}_{code}_XX" for take, code in product(_ABSENT_IN_ALL_EMOTIONS, _CODES)}
    return frozenset(names - absent - set(_ABSENT))
