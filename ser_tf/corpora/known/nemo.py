"""nEMO: 9 Polish actors, 6 emotions (Christop 2024).

A name is `EB0_anger_1`: speaker, emotion, number.
"""

import re

from ser_tf.corpora.kind import CorpusFacts, CorpusKind, parse_by

NAME = "nemo"

_CODES = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "surprised": "surprised",
    "surprise": "surprised",
}
_NAME = re.compile(rf"(?P<speaker>[A-Z]{{2}}\d)_(?P<emotion>{'|'.join(_CODES)})_\d+", re.ASCII)

CORPUS = CorpusKind(
    name=NAME,
    written="nEMO",
    facts=CorpusFacts(
        title="nEMO (Christop 2024)",
        licence="CC BY-NC-SA 4.0",
        terms="no commercial use; name the authors; share alike",
        speech="9 actors speak sentences in Polish with acted emotion",
    ),
    emotions=tuple(dict.fromkeys(_CODES.values())),
    parse=parse_by(NAME, _NAME, _CODES),
    published_rate_hz=24_000,
)
