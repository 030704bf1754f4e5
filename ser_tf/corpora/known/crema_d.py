"""CREMA-D: 91 actors, 6 emotions (Cao et al. 2014, https://github.com/CheyneyComputerScience/CREMA-D).

A name is `AAAA_SSS_EEE_LL`: actor, sentence, emotion, and level LO, MD, HI or XX (unspecified).
"""

import csv
import re
from itertools import product
from pathlib import Path, PurePath

from ser_tf.corpora.kind import CorpusFacts, CorpusKind
from ser_tf.errors import UserError

NAME = "crema_d"
EMOTIONS = ("angry", "disgust", "fearful", "happy", "neutral", "sad")
"""Emotion code ANG, DIS, FEA, HAP, NEU, SAD in this order."""

_RENAMED = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}  # in an older release

_CODES = dict(zip(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), EMOTIONS, strict=True))
_LETTERS = {code[0]: emotion for code, emotion in _CODES.items()}
_VOTES = "summaryTable.csv"
_NAME = re.compile(r"(?P<actor>1\d{3})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_(LO|MD|HI|XX)", re.ASCII)
_ACTORS = range(1001, 1092)
_SENTENCES = ("DFA", "IEO", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI")
_SENTENCE_WITH_LEVELS = "IEO"
# Recordings that the publisher never had: 91 * (5 * 14 + 12) = 7462 names, 20 of them absent.
_ABSENT_IN_ALL_EMOTIONS = ("1008_WSI", "1009_MTI", "1019_ITH")
_ABSENT = ("1002_TIE_NEU_XX", "1076_ITS_NEU_XX")


def parse(name: str) -> tuple[str, str] | None:
    """Speaker and emotion of an utterance; None if it is not one of CREMA-D.

    Raises:
        UserError: the emotion code is unknown.

    Example:
        >>> parse("1001_DFA_ANG_XX")
        ('crema_d:1001', 'angry')
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    code = match["emotion"]
    if code not in _CODES:
        raise UserError(f"expected one of the emotion codes {', '.join(_CODES)}. Received: {code}")
    return f"{NAME}:{match['actor']}", _CODES[code]


def speaker_of(name: str) -> str | None:
    """The actor, even if the emotion code is unknown; None if CREMA-D has no such name."""
    match = _NAME.fullmatch(name)
    return f"{NAME}:{match['actor']}" if match else None


def name_of(path: PurePath) -> str:
    """Name of an utterance in today's release."""
    return _RENAMED.get(path.stem, path.stem)


def published_names() -> frozenset[str]:
    """Names of the 7442 utterances: one sentence is acted at three levels except for neutral, the others at one."""
    names = {
        f"{actor}_{sentence}_{code}_{level}"
        for actor, sentence, code in product(_ACTORS, _SENTENCES, _CODES)
        for level in (("LO", "MD", "HI") if sentence == _SENTENCE_WITH_LEVELS and code != "NEU" else ("XX",))
    }
    absent = {f"{take}_{code}_XX" for take, code in product(_ABSENT_IN_ALL_EMOTIONS, _CODES)}
    return frozenset(names - absent - set(_ABSENT))


def find_votes(root: Path) -> Path:
    """The publisher's table of listeners' votes.

    Args:
        root: directory of the recordings, or the one above it. The table lies in it, in the one above it, or in
            `processedResults/` of either.

    Raises:
        UserError: the table is missing.
    """
    for folder in (root, root.parent):
        for path in (folder / _VOTES, folder / "processedResults" / _VOTES):
            if path.is_file():
                return path
    raise UserError(
        f"{root}: expected the listeners' votes, {_VOTES}, there, beside it or in processedResults/; fetch it from "
        "https://github.com/CheyneyComputerScience/CREMA-D"
    )


def read_votes(path: Path) -> dict[str, tuple[str, ...]]:
    """Utterance -> the emotion that most listeners chose from the voice alone; several if they tie.

    Args:
        path: CSV with the columns FileName and VoiceVote; a vote is a letter, "A", and a tie of two "A:D".

    Raises:
        UserError: it is not such a table; the message gives the row, counted from 1 for the first line.
    """
    votes = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"FileName", "VoiceVote"} <= set(rows.fieldnames or ()):
                received = ", ".join(rows.fieldnames or ()) or "an empty file"
                raise UserError(f"{path}: expected the columns FileName, VoiceVote in row 1. Received: {received}")
            for row in rows:
                letters = (row["VoiceVote"] or "").split(":")
                if not set(letters) <= _LETTERS.keys():
                    raise UserError(
                        f"{path}, row {rows.line_num}: expected letters among {', '.join(_LETTERS)}, joined by ':'. "
                        f"Received: VoiceVote={row['VoiceVote']!r}; fetch the table again"
                    )
                votes[_RENAMED.get(row["FileName"], row["FileName"])] = tuple(_LETTERS[letter] for letter in letters)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected a readable CSV table in UTF-8. Received: {error}") from error
    return votes


_TWO_EMOTIONS = "one recording published under two emotions, so neither label can be trusted"

CORPUS = CorpusKind(
    name=NAME,
    written="CREMA-D",
    facts=CorpusFacts(
        title="CREMA-D (Cao et al. 2014)",
        licence="ODbL 1.0",
        terms="name the source; a database derived from it stays under the same licence",
        speech="91 actors, 43 women and 48 men of 20 to 74 years, speak twelve sentences in English with acted emotion",
    ),
    emotions=EMOTIONS,
    parse=parse,
    name_of=name_of,
    speaker_of=speaker_of,
    published_names=published_names,
    published_rate_hz=16_000,
    exclusions={
        "1076_MTI_SAD_XX": "every sample is zero",
        **dict.fromkeys(("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"), _TWO_EMOTIONS),
        **dict.fromkeys(("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"), _TWO_EMOTIONS),
        **dict.fromkeys(("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"), _TWO_EMOTIONS),
    },
)
