"""TESS: 2 women, 7 emotions (Pichora-Fuller and Dupuis 2020, doi 10.5683/SP2/E8H2MF).

A name is `OAF_back_angry`: speaker, word, emotion.
"""

import re
from pathlib import PurePath

from ser_tf.corpora.kind import CorpusFacts, CorpusKind, parse_by

NAME = "tess"

_RENAMED = {"OA_bite_neutral": "OAF_bite_neutral"}
_CODES = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "fearful",
    "disgust": "disgust",
    "ps": "surprised",
}
_AGES = {"OAF": 64, "YAF": 26}
_NAME = re.compile(rf"(?P<speaker>{'|'.join(_AGES)})_[a-z]+_(?P<emotion>{'|'.join(_CODES)})", re.ASCII)


def name_of(path: PurePath) -> str:
    """Name of an utterance; one file is published with a misspelt speaker."""
    return _RENAMED.get(path.stem, path.stem)


CORPUS = CorpusKind(
    name=NAME,
    written="TESS",
    facts=CorpusFacts(
        title="TESS (Pichora-Fuller and Dupuis 2020, doi 10.5683/SP2/E8H2MF)",
        licence="CC BY-NC-ND 4.0",
        terms="no commercial use; name the authors; no derivatives passed on",
        speech="2 women of 26 and 64 years say 200 words in a carrier phrase in English with acted emotion",
    ),
    emotions=tuple(_CODES.values()),
    parse=parse_by(NAME, _NAME, _CODES),
    name_of=name_of,
    published_rate_hz=24_414,
    known_faults=(
        "Two speakers only: too few for folds of its own. Use it beside other corpora.",
        "OA_bite_neutral belongs to OAF and is read as OAF_bite_neutral.",
        "OAF_food_fear is at 96 kHz.",
        "A copy in circulation holds every file twice; each utterance counts once.",
    ),
    sex_of=lambda speaker: "female" if speaker in _AGES else None,
    ages=_AGES,
)
