"""Any corpus, described in a CSV table.

The columns are `path`, `speaker`, `emotion`, and optionally `polarity` (negative, positive, neutral). Paths are
relative to the table. A known emotion has its polarity already; for other words the emotion triplet loss needs the
column.
"""

import csv
from pathlib import Path

from ser_tf.corpora import EMOTIONS, POLARITIES, Corpus, Utterance
from ser_tf.errors import UserError

NAME = "table"
COLUMNS = ("path", "speaker", "emotion")


def read_table(path: Path) -> Corpus:
    """Read a table as a corpus.

    Known emotions come first in the label order, in the order of `EMOTIONS`, then the others by alphabet.

    Args:
        path: CSV file in UTF-8 whose first row names the columns.

    Returns:
        The corpus; an utterance's name is its path as written, without suffix.

    Raises:
        UserError: the file is not such a table; the message names the row, counted from 1 for the first line.
    """
    utterances: dict[str, Utterance] = {}
    polarities: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
            if missing:
                received = ", ".join(rows.fieldnames or ()) or "an empty file"
                raise UserError(f"{path}: expected the columns {', '.join(COLUMNS)} in row 1. Received: {received}")
            for row in rows:
                where = f"{path}, row {rows.line_num}"
                utterance = _utterance(row, path.parent, where)
                if utterance.name in utterances:
                    raise UserError(
                        f"{where}: expected each recording once. Received: path={utterance.name!r} (without suffix) "
                        "again; remove one row"
                    )
                utterances[utterance.name] = utterance
                polarity = _polarity(row, where)
                if polarity and polarities.setdefault(utterance.emotion, polarity) != polarity:
                    raise UserError(
                        f"{where}: expected one polarity for each emotion. Received: {utterance.emotion!r} as "
                        f"{polarity} and, above, as {polarities[utterance.emotion]}"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected a readable CSV table in UTF-8. Received: {error}") from error
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


def _utterance(row: dict[str, str | None], folder: Path, where: str) -> Utterance:
    for column in COLUMNS:
        if not (row[column] or "").strip():
            raise UserError(
                f"{where}: expected a value for `{column}`. Received: nothing; fill it in or remove the row"
            )
    written, speaker, emotion = ((row[column] or "").strip() for column in COLUMNS)
    recording = folder / written
    if not recording.is_file():
        raise UserError(f"{where}: expected a recording. Received: path={written!r}, and {recording} is no file")
    return Utterance(str(Path(written).with_suffix("")), recording, f"{NAME}:{speaker}", emotion.lower())


def _polarity(row: dict[str, str | None], where: str) -> str:
    polarity = (row.get("polarity") or "").strip().lower()
    if polarity and polarity not in POLARITIES.values():
        expected = ", ".join(sorted(set(POLARITIES.values())))
        raise UserError(f"{where}: expected a polarity among {expected}. Received: {polarity!r}")
    return polarity
