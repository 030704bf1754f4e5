"""CREMA-D: 91 actors, 6 emotions (Cao et al. 2014, https://github.com/CheyneyComputerScience/CREMA-D).

A name is `AAAA_SSS_EEE_LL`: actor, sentence, emotion, and level LO, MD, HI or XX (not given).
"""

import csv
import re
from itertools import product
from pathlib import Path

from ser_tf.errors import UserError

NAME = "crema_d"
EMOTIONS = ("angry", "disgust", "fearful", "happy", "neutral", "sad")
"""Emotion code ANG, DIS, FEA, HAP, NEU, SAD in this order."""

RENAMED = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}
"""One name of an older release -> today's."""

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


def speaker_of(stem: str) -> str | None:
    """The actor, whatever the emotion code; None when the name is none of CREMA-D's."""
    match = _NAME.fullmatch(RENAMED.get(stem, stem))
    return f"{NAME}:{match['actor']}" if match else None


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
    """The publisher's table of the listeners' votes: beside the recordings, or where the repository keeps it.

    Args:
        root: directory of the recordings, or the one above it.

    Raises:
        UserError: there is none.
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
    """The emotions that most listeners heard in the voice alone, by utterance; several where they tie.

    Args:
        path: CSV with the columns FileName and VoiceVote; a vote is a letter, "A", and a tie of two "A:D".

    Raises:
        UserError: the file is not such a table; the message names the row, counted from 1 for the first line.
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
                votes[RENAMED.get(row["FileName"], row["FileName"])] = tuple(_LETTERS[letter] for letter in letters)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected a readable CSV table in UTF-8. Received: {error}") from error
    return votes
