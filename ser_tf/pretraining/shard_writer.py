"""Write one shard: recordings -> speech in a TFRecord file, and a JSON page that describes it.

A record is a `tf.train.Example` with the features `speech` (int16 samples at 16 kHz without silence, little endian),
`speaker`, `name`, `sample_hash` (16 hex digits) and `seconds` (of speech). The page gets its name before the
shard does, so an existing shard is complete. A killed process leaves only files named `unfinished-...`.
"""

import hashlib
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser_tf.audio.decoding import read_content
from ser_tf.audio.recording import Recording, decoder_of, speech_of
from ser_tf.config import SAMPLE_RATE_HZ, Config
from ser_tf.documents import read_json
from ser_tf.errors import UserError
from ser_tf.pretraining.plan import Row, ShardRows

if TYPE_CHECKING:
    import tensorflow as tf

UNFINISHED = "unfinished-"
_UTTERANCE = {
    **dict.fromkeys(("name", "speaker", "path"), str),
    **dict.fromkeys(("sample_hash", "samples"), int),
    "recorded_seconds": float,
    "kept_whole": bool,
}
_PAGE = {"plan_hash": str, "bytes": int, "utterances": [_UTTERANCE], "failed": [[str]], "checksum": str}


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to write a shard, on any machine.

    Attributes:
        shard: its recordings.
        folder: their paths are relative to it.
        out: folder of the shards.
        config: decoder and silence removal.
    """

    shard: ShardRows
    folder: Path
    out: Path
    config: Config

    @property
    def records(self) -> Path:
        """The shard's file."""
        return self.out / f"shard-{self.shard.number:05d}.tfrecord"

    @property
    def page(self) -> Path:
        """The page: `plan_hash`, `bytes` (of the shard), `utterances`, `failed`, `checksum` (of the rest), in JSON."""
        return self.records.with_suffix(".json")

    def finished(self) -> bool:
        """Whether the shard exists, complete and with exactly these recordings."""
        try:
            page = read_page(self.page)
            return (page["plan_hash"], page["bytes"]) == (self.shard.plan_hash, self.records.stat().st_size)
        except (OSError, UserError):  # one of them is missing or damaged
            return False


def write_shard(task: ShardTask, begin: Callable[[str], None] = lambda path: None) -> int:
    """Write a shard. A recording that cannot be read is listed on its page and does not stop the others.

    Args:
        task: the shard.
        begin: receives the path of each recording before it is read.

    Returns:
        Its number.

    Raises:
        UserError: it cannot be written.
    """
    import tensorflow as tf

    decode = decoder_of(task.config)
    mark = f"{UNFINISHED}{socket.gethostname()}-{os.getpid()}-"
    records, page = (path.with_name(mark + path.name) for path in (task.records, task.page))
    utterances: list[dict[str, Any]] = []
    failed: list[tuple[str, str]] = []
    try:
        with tf.io.TFRecordWriter(str(records)) as writer:
            for row in task.shard.rows:
                begin(row.path)
                path = task.folder / row.path
                try:
                    recording = speech_of(read_content(path), str(path), task.config, decode)
                except Exception as error:  # one recording that crashes its decoder must not stop the others
                    slip = f"{path}: stopped its decoder ({error!r}); move it out of the folder"
                    failed.append((row.path, str(error) if isinstance(error, UserError) else slip))
                    continue
                writer.write(_example(row, recording).SerializeToString(deterministic=True))
                utterances.append(_entry(row, recording))
        content = {"plan_hash": task.shard.plan_hash, "bytes": records.stat().st_size}
        content |= {"utterances": utterances, "failed": failed}
        page.write_text(json.dumps(content | {"checksum": _checksum(content)}) + "\n")
        task.records.unlink(missing_ok=True)  # an old shard must not be taken for that of the new page
        page.replace(task.page)
        records.replace(task.records)
    except (OSError, tf.errors.OpError) as error:
        for path in (records, page):
            path.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else error.message.rpartition("; ")[2]
        raise UserError(
            f"{task.records}: cannot be written ({reason}); make room and start the same command again: it continues"
        ) from error
    return task.shard.number


def read_page(path: Path) -> dict[str, Any]:
    """Read a shard's page.

    Raises:
        UserError: the page is missing, damaged, or of a version without checksums.
    """
    remedy = "start the same ser-tf prepare command again and the shard is redone"
    page = read_json(path, remedy, _PAGE)
    if page.pop("checksum") != _checksum(page):
        raise UserError(f"{path}: damaged; {remedy}")
    return page


def _checksum(page: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(page).encode(), digest_size=16).hexdigest()


def _example(row: Row, recording: Recording) -> "tf.train.Example":
    import tensorflow as tf

    def text(value: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))

    speech = recording.speech.samples.astype("<i2")
    features = {
        "speech": tf.train.Feature(bytes_list=tf.train.BytesList(value=[speech.tobytes()])),
        "speaker": text(row.speaker),
        "name": text(row.name),
        "sample_hash": text(f"{recording.sample_hash:016x}"),
        "seconds": tf.train.Feature(float_list=tf.train.FloatList(value=[len(speech) / SAMPLE_RATE_HZ])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def _entry(row: Row, recording: Recording) -> dict[str, Any]:
    """The entry of an utterance on the page, and so in the manifest."""
    return row._asdict() | {
        "sample_hash": recording.sample_hash,
        "samples": len(recording.speech.samples),
        "recorded_seconds": recording.seconds,
        "kept_whole": recording.speech.kept_whole,
    }
