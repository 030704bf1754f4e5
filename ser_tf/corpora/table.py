"""Any corpus, described in a CSV table.

The columns are `path`, `speaker`, `emotion`, and optionally `polarity` (negative, positive, neutral), in any order.
Other columns are ignored. Commas, semicolons or tabs separate them. Paths are relative to the table. Known emotions
have a polarity; for other words the emotion triplet loss needs the column.
"""

import csv
import io
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from ser_tf.corpora.corpus import EMOTIONS, POLARITIES, Corpus, Utterance
from ser_tf.documents import read_bounded
from ser_tf.errors import UserError, quoted
from ser_tf.spelling import voice

NAME = "table"
COLUMNS = ("path", "speaker", "emotion")
POLARITY = "polarity"
DELIMITERS = (",", ";", "\t")
LARGEST_BYTES = 500_000_000
EMPTY = frozenset({"", "nan", "NaN", "<NA>", "NA", "na", "N/A", "#N/A", "n/a", "null", "NULL", "None", "none"})
"""Cells without a value, as programs write them."""
LONGEST_NAME = 100
"""Characters in the name of a speaker or emotion; a longer one is probably a transcript in the wrong column."""
RESERVED = frozenset({"side", "file", "utterance", "speaker", "truth", "prediction", "strategy", "seed", "fold"})
"""Forbidden as emotions: they are columns beside the emotions in a run's tables."""
_IN_EMOTIONS = " -_'\u2019.,/&+()"
"""Allowed in an emotion's name after the first letter or digit."""
_JOINERS = "\u200c\u200d"
"""Shape letters in Persian and Indian scripts; not separators."""


def read_table(path: Path) -> Corpus:
    """Read a table as a corpus.

    Label order: known emotions in the order of `EMOTIONS`, then the others alphabetically. White space around a value
    is dropped, white space inside becomes one space, and letters are composed (Unicode's NFC). Two spellings that
    `voice` treats as one speaker are refused, since only the user knows whether they are two people.

    Args:
        path: CSV file in UTF-8; its first row names the columns, in upper or lower case.

    Returns:
        The corpus; an utterance's name is its path as written, without suffix and normalised (`a/../b` is `b`).

    Raises:
        UserError: it is not such a table; the message gives the row, counted from 1 for the first line.
    """
    utterances: dict[str, Utterance] = {}
    polarities: dict[str, str] = {}
    spellings: dict[str, str] = {}
    for where, row in _rows(path):
        utterance = _utterance(row, path.parent, where)
        if utterance.name in utterances:
            raise UserError(
                f"{where}: expected each recording once. Received: path={utterance.name!r} (without suffix) "
                "again; remove one row"
            )
        utterances[utterance.name] = utterance
        spelling = spellings.setdefault(voice(utterance.speaker), utterance.speaker)
        if spelling != utterance.speaker:
            raise UserError(
                f"{where}: expected one spelling of a speaker's name. Received: {quoted(row['speaker'])} and, above, "
                f"{quoted(spelling.partition(':')[2])}; write them alike or, if they are two people, so that they "
                "differ in more than case, leading zeros and white space"
            )
        polarity = _polarity(row, where)
        if polarity and polarities.setdefault(utterance.emotion, polarity) != polarity:
            raise UserError(
                f"{where}: expected one polarity for each emotion. Received: {utterance.emotion!r} as "
                f"{polarity} and, above, as {polarities[utterance.emotion]}"
            )
    words = {utterance.emotion for utterance in utterances.values()}
    emotions = tuple(word for word in EMOTIONS if word in words) + tuple(sorted(words - set(EMOTIONS)))
    return Corpus(
        name=NAME,
        root=path,
        utterances=tuple(utterances[name] for name in sorted(utterances)),
        emotions=emotions,
        polarities=tuple(polarities.get(emotion, POLARITIES.get(emotion, "")) for emotion in emotions),
        exclusions=(),
    )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Place of each row, and its cells by column, without surrounding white space."""
    expected = f"{path}: expected a readable CSV table in UTF-8"
    try:
        text = read_bounded(path, LARGEST_BYTES).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(f"{expected}. Received: {error}; save it as UTF-8 (in Excel: CSV UTF-8)") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{expected}. Received: {error}") from error
    # Strict: an unclosed quotation mark would swallow all following rows.
    lines = io.StringIO(text, newline="")
    rows = csv.reader(lines, delimiter=_delimiter(text), skipinitialspace=True, strict=True)
    try:
        columns = [" ".join(title.split()).casefold() for title in next(rows, [])]
        if any(columns.count(column) != 1 for column in COLUMNS) or columns.count(POLARITY) > 1:
            received = quoted(", ".join(filter(None, columns))) if text.strip() else "an empty file"
            raise UserError(
                f"{path}: expected the columns {', '.join(COLUMNS)} in row 1, each once, with commas, semicolons or "
                f"tabs between. Received: {received}"
            )
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{path}, row {rows.line_num}"
            if any(cell.strip() for cell in cells[len(columns) :]):
                raise UserError(
                    f"{where}: expected at most {len(columns)} cells, as in row 1. Received: {len(cells)}; put "
                    "quotation marks around a value that contains the delimiter"
                )
            cells += [""] * (len(columns) - len(cells))
            yield where, {column: cell.strip() for column, cell in zip(columns, cells, strict=False)}
    except csv.Error as error:
        raise UserError(f"{expected}. Received: {error}, in row {rows.line_num}; mend its quotation marks") from error


def _delimiter(text: str) -> str:
    """The delimiter that separates most of the known columns in the first line."""
    first = text.partition("\n")[0].casefold()

    def columns(delimiter: str) -> int:
        return len({title.strip(' "\r') for title in first.split(delimiter)} & {*COLUMNS, POLARITY})

    return max(DELIMITERS, key=lambda delimiter: (columns(delimiter), first.count(delimiter)))


def _utterance(row: dict[str, str], folder: Path, where: str) -> Utterance:
    for column in COLUMNS:
        if row[column] in EMPTY or (column == "emotion" and row[column].lower() in EMPTY):
            received = f"{row[column]!r}, which stands for no value" if row[column] else "nothing"
            raise UserError(
                f"{where}: expected a value for `{column}`. Received: {received}; fill it in or remove the row"
            )
        if len(row[column].splitlines()) > 1:
            raise UserError(
                f"{where}: expected one line for `{column}`. Received: {quoted(row[column])}; mend the quotation marks"
            )
    written = _path(row["path"], folder, where)
    name = os.path.normpath(Path(written).with_suffix(""))
    speaker, emotion = (" ".join(unicodedata.normalize("NFC", row[column]).split()) for column in COLUMNS[1:])
    for column, value in (("speaker", speaker), ("emotion", emotion)):
        if len(value) > LONGEST_NAME:
            raise UserError(
                f"{where}: expected a `{column}` of at most {LONGEST_NAME} characters. Received: {len(value)} "
                f"characters, {quoted(value)}; check that the values stand in their columns"
            )
    if speaker == "*" or not all(letter.isprintable() or letter in _JOINERS for letter in speaker):
        raise UserError(
            f"{where}: expected a speaker's name of visible characters other than a single *. "
            f"Received: {quoted(speaker)}; rename the speaker"
        )
    return Utterance(name, folder / written, f"{NAME}:{speaker}", _emotion(emotion, where))


def _path(written: str, folder: Path, where: str) -> str:
    """The path as written, or with slashes in place of Windows' backslashes if that is a file."""
    for path in (written, PureWindowsPath(written).as_posix()):
        try:
            if (folder / path).is_file():
                return path
        except (OSError, ValueError):  # too long, or with a NUL
            continue
    raise UserError(
        f"{where}: expected a recording. Received: path={quoted(written)}, and {folder / written} is no file; write "
        "paths relative to the table"
    )


def _emotion(written: str, where: str) -> str:
    emotion = written.lower()
    fits = all(
        unicodedata.category(letter)[0] in "LMN" or letter in _IN_EMOTIONS or letter in _JOINERS for letter in emotion
    )
    if not (fits and emotion[:1].isalnum()) or emotion in RESERVED:
        raise UserError(
            f"{where}: expected an emotion of letters and digits, then also {_IN_EMOTIONS.strip()}, and none "
            f"of {', '.join(sorted(RESERVED))}. Received: {quoted(written)}; rename the emotion"
        )
    return emotion


def _polarity(row: dict[str, str], where: str) -> str:
    written = row.get(POLARITY, "")
    polarity = "" if written in EMPTY else written.lower()
    if polarity and polarity not in POLARITIES.values():
        expected = ", ".join(sorted(set(POLARITIES.values())))
        raise UserError(f"{where}: expected a polarity among {expected}. Received: {quoted(polarity)}")
    return polarity
