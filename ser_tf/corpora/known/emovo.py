"""EMOVO: 6 Italian actors, 7 emotions (Costantini et al. 2014).

A name is `dis-f1-b1`: emotion, speaker (f women, m men), sentence.
"""

import re
from itertools import product

from ser_tf.corpora.kind import CorpusFacts, CorpusKind, parse_by

NAME = "emovo"

_CODES = {
    "neu": "neutral",
    "gio": "happy",
    "tri": "sad",
    "rab": "angry",
    "pau": "fearful",
    "dis": "disgust",
    "sor": "surprised",
}
_SPEAKERS = ("f1", "f2", "f3", "m1", "m2", "m3")
_SENTENCES = ("b1", "b2", "b3", "d1", "d2", "l1", "l2", "l3", "l4", "n1", "n2", "n3", "n4", "n5")
_SEXES = {"f": "female", "m": "male"}
_NAME = re.compile(rf"(?P<emotion>{'|'.join(_CODES)})-(?P<speaker>{'|'.join(_SPEAKERS)})-[a-z]\d", re.ASCII)


def published_names() -> frozenset[str]:
    """Names of the 588 utterances: each actor speaks 14 sentences with each emotion."""
    return frozenset(map("-".join, product(_CODES, _SPEAKERS, _SENTENCES)))


CORPUS = CorpusKind(
    name=NAME,
    written="EMOVO",
    facts=CorpusFacts(
        title="EMOVO (Costantini et al. 2014)",
        licence="free for research with citation; none stated in copies",
        terms="research only; name the authors",
        speech="6 actors, 3 women and 3 men, speak 14 sentences in Italian with acted emotion",
    ),
    emotions=tuple(_CODES.values()),
    parse=parse_by(NAME, _NAME, _CODES),
    published_names=published_names,
    published_rate_hz=48_000,
    known_faults=("All files but one are stereo.",),
    sex_of=lambda speaker: _SEXES.get(speaker[:1]),
)
