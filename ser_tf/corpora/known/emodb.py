"""EmoDB: 10 German actors, 7 emotions (Burkhardt et al. 2005).

A name is `03a01Fa`: speaker, text, emotion, take.
"""

import re

from ser_tf.corpora.kind import CorpusFacts, CorpusKind, parse_by

NAME = "emodb"

_CODES = {
    "N": "neutral",
    "F": "happy",
    "T": "sad",
    "W": "angry",
    "A": "fearful",
    "E": "disgust",
    "L": "bored",
}
_MEN = ("03", "10", "11", "12", "15")
_WOMEN = ("08", "09", "13", "14", "16")
_NAME = re.compile(rf"(?P<speaker>{'|'.join((*_MEN, *_WOMEN))})[ab]\d\d(?P<emotion>[{''.join(_CODES)}])[a-z]", re.ASCII)

CORPUS = CorpusKind(
    name=NAME,
    written="EmoDB",
    facts=CorpusFacts(
        title="EmoDB (Burkhardt et al. 2005)",
        licence="free for research; none stated in copies",
        terms="research only; name the authors",
        speech="10 actors, 5 women and 5 men, speak ten sentences in German with acted emotion",
    ),
    emotions=tuple(_CODES.values()),
    parse=parse_by(NAME, _NAME, _CODES),
    polarities={"bored": "neutral"},  # on no wheel of the paper: treated like neutral
    published_rate_hz=16_000,
    known_faults=("Copies in circulation are resampled to 22.05 kHz and cut to 2 s; the original is at 16 kHz.",),
    sex_of=lambda speaker: "male" if speaker in _MEN else "female" if speaker in _WOMEN else None,
)
