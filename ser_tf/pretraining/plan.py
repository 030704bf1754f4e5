"""Which recording goes to which shard: a pure function of the recordings' names, stored on disk."""

import filecmp
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from ser_tf.corpora.corpus import AUDIO_SUFFIXES, PYAV_SUFFIXES, is_table
from ser_tf.corpora.speakers import SpeakerRecording, find_recordings
from ser_tf.errors import UserError

RECORDINGS_PER_SHARD = 256
"""About 50 MB of VoxCeleb's speech per shard."""
FEWEST_SHARDS = 16
"""Minimum number of shards, so that all cores have work; fewer recordings get one shard each."""


class Row(NamedTuple):
    """A recording of a shard."""

    name: str
    speaker: str
    path: str
    """Relative to the folder of the root."""


class ShardRows(NamedTuple):
    """The recordings of one shard, in writing order."""

    number: int
    rows: tuple[Row, ...]
    plan_hash: str
    """Hash of the recordings' names and speakers and their files' paths, sizes and times of change."""


class Plan:
    """Assigns the recordings of a corpus to shards.

    The hash of a recording's name decides its shard and its place there. So every shard is a random sample of all
    speakers, and the same corpus gives the same shards on every machine. The rows are in a private SQLite file, which
    the system removes: memory does not grow with the corpus.

    Attributes:
        shards: their number.
        recordings: their number, without copies.
        speakers: their number.
        has_m4a: whether a decoder for AAC is needed.
    """

    def __init__(self, root: Path) -> None:
        """Find the recordings.

        Raises:
            UserError: there are none, or of one speaker only; the root or a folder cannot be read; or the disk has no
                room for temporary files.
        """
        self.root = root
        self.folder = root.parent if is_table(root) else root
        with _full_disk_explained():
            self._database = sqlite3.connect("")
            self._database.executescript(_SCHEMA)
            self._database.executemany(_INSERT, map(self._values, find_recordings(root)))
            self._leave_out_copies()
            if self._one("SELECT max(recognised) FROM recordings"):
                self._database.execute("UPDATE recordings SET problem = ? WHERE NOT recognised", [_UNLIKE])
            self._database.execute("CREATE INDEX sound ON recordings (hash) WHERE problem = ''")
        self.recordings = self._one("SELECT count(*) FROM recordings WHERE problem = ''")
        self.speakers = self._one("SELECT count(DISTINCT speaker) FROM recordings WHERE problem = ''")
        self.has_m4a = any(
            self._one(f"SELECT count(*) FROM recordings WHERE problem = '' AND path LIKE '%{suffix}'")
            for suffix in PYAV_SUFFIXES
        )
        if self.speakers < 2:
            received = self._one("SELECT min(speaker) FROM recordings WHERE problem = ''")
            raise UserError(
                f"{root}: expected recordings ({', '.join(AUDIO_SUFFIXES)}) of at least two speakers, as "
                f"{root}/<speaker>/... Received: {f'{received} only' if received else 'none'}; check the path"
            )
        least = min(self.recordings, FEWEST_SHARDS)
        self.shards = max(least, -(-self.recordings // RECORDINGS_PER_SHARD))

    def __iter__(self) -> Iterator[ShardRows]:
        """The shards in order, including any without recordings."""
        with _full_disk_explained():
            found = self._database.execute(
                "SELECT hash % ?, name, speaker, path, file FROM recordings WHERE problem = '' "
                "ORDER BY hash % ?, hash, id",
                [self.shards, self.shards],
            )
            dealt = groupby(found, key=itemgetter(0))
            number, following = next(dealt, (None, None))
            for shard in range(self.shards):
                rows = list(following) if number == shard and following is not None else []
                lines = "".join("\t".join(values) + "\n" for _, *values in rows)
                plan_hash = hashlib.blake2b(lines.encode(), digest_size=8).hexdigest()
                yield ShardRows(shard, tuple(Row(*values) for _, *values, _ in rows), plan_hash)
                if number == shard:
                    number, following = next(dealt, (None, None))

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and reason of each recording that is assigned to no shard."""
        yield from self._database.execute("SELECT path, problem FROM recordings WHERE problem != '' ORDER BY path")

    def _leave_out_copies(self) -> None:
        """Of files with one name use the first; others are dropped if equal to it, and problems if not."""
        self._database.execute(_FIND_COPIES)
        for identity, path, first in self._database.execute("SELECT id, path, first FROM copies"):
            if path == first or _are_equal(self.folder / path, self.folder / first):
                self._database.execute("DELETE FROM recordings WHERE id = ? AND path = ?", [identity, path])
            else:
                problem = f"a different recording of this name is used, {first}; rename or remove one of them"
                self._database.execute(
                    "UPDATE recordings SET problem = ? WHERE id = ? AND path = ?", [problem, identity, path]
                )

    def _one(self, query: str) -> int:
        return self._database.execute(query).fetchone()[0]

    def _values(self, recording: SpeakerRecording) -> tuple[str | int, ...]:
        path = os.path.relpath(recording.path, self.folder)
        problem = "" if recording.speaker else _NO_FOLDER
        if not _is_utf8(path):
            path, problem = os.fsencode(path).decode(errors="backslashreplace"), _NOT_UTF8
        corpus = recording.speaker.partition(":")[0]
        name = path if problem else recording.name
        identity = f"{problem}:{corpus}:{name}"
        name_hash = int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big") >> 1
        return (
            identity,
            name_hash,
            name,
            recording.speaker,
            path,
            _state_of(recording.path),
            AUDIO_SUFFIXES.index(recording.path.suffix.lower()) if not problem else 0,
            len(recording.path.parts),
            recording.recognised,
            problem,
        )


_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA temp_store = FILE;
CREATE TABLE recordings (
    id TEXT, hash INTEGER, name TEXT, speaker TEXT, path TEXT, file TEXT, format INTEGER, depth INTEGER,
    recognised INTEGER, problem TEXT, PRIMARY KEY (id, format, depth, path)
) WITHOUT ROWID;
"""
_INSERT = "INSERT OR IGNORE INTO recordings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""Or ignore: a table may spell one path in two ways."""
_FIND_COPIES = """
CREATE TEMPORARY TABLE copies AS
SELECT id, path, first FROM (
    SELECT id, path,
        row_number() OVER (PARTITION BY id ORDER BY format, depth, path) AS place,
        first_value(path) OVER (PARTITION BY id, format ORDER BY depth, path) AS first
    FROM recordings WHERE problem = ''
) WHERE place > 1
"""
"""`first` is the first of the same format: contents are compared only within a format."""
_NO_FOLDER = "expected a folder per speaker. Received: a recording beside them; move it to the folder of its speaker"
_NOT_UTF8 = "expected a name in UTF-8; rename the file"
_UNLIKE = (
    "not named like the recordings of known corpora beside it, so its speaker may be one of theirs; move it out of the "
    "folder"
)


def _state_of(path: Path) -> str:
    """The file's size and time of change, which differ after it is rewritten."""
    try:
        status = path.stat()
    except OSError:  # a broken link, which fails when it is read
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _are_equal(path: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _full_disk_explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UserError(
            f"temporary files: cannot be written ({error}); free some space, or choose another folder with the "
            "environment variable SQLITE_TMPDIR"
        ) from error
