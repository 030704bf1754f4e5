"""URDU: 4 emotions from Urdu talk shows (Latif et al. 2018).

A name is `SM25_F34_S084`: speaker (SF women, SM men), file, emotion and number.
"""

import re

from ser_tf.corpora.kind import CorpusFacts, CorpusKind, parse_by

NAME = "urdu"

_CODES = {"N": "neutral", "H": "happy", "S": "sad", "A": "angry"}
_SEXES = {"SF": "female", "SM": "male"}
_NAME = re.compile(rf"(?P<speaker>S[FM]\d+)_F\d+_(?P<emotion>[{''.join(_CODES)}])\d+", re.ASCII)

CORPUS = CorpusKind(
    name=NAME,
    written="URDU",
    facts=CorpusFacts(
        title="URDU (Latif et al. 2018)",
        licence="research only",
        terms="research only; name the authors",
        speech="women and men speak spontaneously in Urdu in television talk shows",
    ),
    emotions=tuple(_CODES.values()),
    parse=parse_by(NAME, _NAME, _CODES),
    published_rate_hz=44_100,
    known_faults=(
        "The file names hold 29 speakers; the README says 38.",
        "156 files have an offset above 0.01 of full scale.",
    ),
    sex_of=lambda speaker: _SEXES.get(speaker[:2]),
)
