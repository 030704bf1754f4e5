"""The files that describe a folder of shards, and reading its manifest.

`preparation.json` is written first; `manifest.parquet` and `failed.csv` are written when all shards are finished.
`manifest.parquet.sha256` is the manifest's checksum in the format of `sha256sum -c`.
"""

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ser_tf.audio.recording import speech_key
from ser_tf.config import SAMPLE_RATE_HZ, Config
from ser_tf.corpora.speakers import RECOGNISED, SpeakerLists
from ser_tf.documents import misfit, parse_json, read_json
from ser_tf.errors import UserError, import_extra
from ser_tf.pretraining.shard_writer import read_page
from ser_tf.runs.files import sha256_of, write_text

DESCRIPTION = "preparation.json"
MANIFEST = "manifest.parquet"
CHECKSUM = "manifest.parquet.sha256"
FAILED = "failed.csv"
_OTHER_VERSION = "prepared by another version of ser-tf; prepare the corpus into another folder, or remove this one"
_SIZES = "shard_bytes"
"""Key of the manifest's metadata: the size of each shard."""
_ROWS_AT_ONCE = 16_384
"""Rows of the manifest that are written together."""


def description_of(root: Path, shards: int, config: Config) -> dict[str, Any]:
    """The content of `preparation.json`: the settings that all shards of a folder share."""
    return {
        "root": str(root.resolve()),
        "shards": shards,
        "speech_key": speech_key(config),
        "configuration": {room: dataclasses.asdict(getattr(config, room)) for room in ("audio", "vad")},
    }


def read_description(folder: Path) -> dict[str, Any]:
    """Read `preparation.json`.

    Raises:
        UserError: the folder has none, a damaged one, or one of another version.
    """
    path, remedy = folder / DESCRIPTION, "give a folder made by ser-tf prepare"
    try:
        description = read_json(path, remedy, dict)
    except UserError as error:
        raise UserError(f"{path}: expected the description of shards; {remedy}") from error
    shape = {"root": str, "shards": int, "speech_key": str, "configuration": {str: dict}}
    if not description.keys() >= shape.keys():
        raise UserError(f"{folder}: {_OTHER_VERSION}")
    problem = misfit(description, shape)
    if problem:
        raise UserError(f"{path}: {problem}; {remedy}")
    return description


def refuse_other_configuration(description: dict[str, Any], config: Config, folder: Path) -> None:
    """Refuse shards prepared with a different decoder or silence removal.

    Raises:
        UserError: the settings differ; the message names the first parameter that does.
    """
    now = description_of(Path(), 0, config)
    for room, parameters in now["configuration"].items():
        for name, value in parameters.items():
            before = description["configuration"].get(room, {}).get(name)
            if before != value:
                raise UserError(
                    f"{folder}: these shards were prepared with {room}.{name} {before}, and this run has {value}; "
                    "set the same value, or prepare the corpus into another folder"
                )
    if description["speech_key"] != now["speech_key"]:
        raise UserError(f"{folder}: {_OTHER_VERSION}")


def require_pyarrow() -> None:
    """Check that pyarrow is installed, which reads and writes the manifest.

    Raises:
        UserError: it is not; the message names the extra.
    """
    import_extra("pyarrow", "the manifest of shards needs pyarrow", "pretraining")


def write_manifest(
    out: Path,
    description: dict[str, Any],
    pages: Iterable[Path],
    problems: Iterable[tuple[str, str]],
    lists: SpeakerLists,
) -> dict[str, Any]:
    """Gather the pages of all shards in `manifest.parquet`, and the failures, if any, in `failed.csv`.

    Args:
        out: the folder.
        description: content of `preparation.json`; it goes into the manifest's metadata under the key `ser_tf`.
        pages: of the shards, in their order.
        problems: path and reason of each recording that was assigned to no shard.
        lists: the speakers' sexes.

    Returns:
        Totals: utterances, failed, speakers, speakers_with_one, seconds (of speech), recorded_seconds.
    """
    import pyarrow
    import pyarrow.parquet

    schema = _schema().with_metadata({"ser_tf": json.dumps(description)})
    speakers = Counter[str]()
    sums = Counter[str](failed=0)
    sizes: list[int] = []
    rows: list[dict[str, Any]] = []
    unfinished, unfinished_failed = (out / f"unfinished-{name}" for name in (MANIFEST, FAILED))
    with (
        pyarrow.parquet.ParquetWriter(unfinished, schema) as writer,
        unfinished_failed.open("w", newline="", encoding="utf-8") as file,
    ):
        failures = csv.writer(file, lineterminator="\n")
        failures.writerow(["path", "reason"])

        def fail(failed: Iterable[Sequence[str]]) -> None:
            for path, reason in failed:
                failures.writerow([path, reason])
                sums["failed"] += 1

        def flush() -> None:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            rows.clear()

        fail(problems)
        for number, path in enumerate(pages):
            page = read_page(path)
            fail(page["failed"])
            sizes.append(page["bytes"])
            for place, utterance in enumerate(page["utterances"]):
                speaker = utterance["speaker"]
                rows.append({"shard": number, "place": place, "sex": lists.sex.get(speaker)} | utterance)
                speakers[speaker] += 1
                sums["samples"] += utterance["samples"]
                sums["recorded_seconds"] += utterance["recorded_seconds"]
            if len(rows) >= _ROWS_AT_ONCE:
                flush()
        flush()
        writer.add_key_value_metadata({_SIZES: json.dumps(sizes)})
    write_text(out / CHECKSUM, f"{sha256_of(unfinished)}  {MANIFEST}\n")
    unfinished.replace(out / MANIFEST)
    if sums["failed"]:
        unfinished_failed.replace(out / FAILED)
    else:
        unfinished_failed.unlink()
        (out / FAILED).unlink(missing_ok=True)
    return {
        "utterances": speakers.total(),
        "failed": sums["failed"],
        "speakers": len(speakers),
        "speakers_with_one": sum(count == 1 for count in speakers.values()),
        "seconds": sums["samples"] / SAMPLE_RATE_HZ,
        "recorded_seconds": sums["recorded_seconds"],
    }


def _schema() -> Any:
    import pyarrow

    def column(name: str, kind: Any) -> Any:
        return pyarrow.field(name, kind, nullable=name == "sex")

    return pyarrow.schema(
        [
            column("shard", pyarrow.int32()),
            column("place", pyarrow.int32()),
            column("name", pyarrow.string()),
            column("speaker", pyarrow.string()),
            column("sex", pyarrow.string()),
            column("path", pyarrow.string()),
            column("sample_hash", pyarrow.uint64()),
            column("samples", pyarrow.int32()),
            column("recorded_seconds", pyarrow.float32()),
            column("kept_whole", pyarrow.bool_()),
        ]
    )


def _sizes(folder: Path) -> list[int]:
    """The size of each shard, from a manifest whose checksum, if there is one, and columns are right.

    Raises:
        Exception: the manifest is damaged.
    """
    import pyarrow.parquet

    path, checksum = folder / MANIFEST, folder / CHECKSUM
    if checksum.is_file() and checksum.read_text() != f"{sha256_of(path)}  {MANIFEST}\n":  # older manifests have none
        raise ValueError("another checksum")
    with pyarrow.parquet.ParquetFile(path) as file:
        found = {field.name: field.type for field in file.schema_arrow}
        if found != {field.name: field.type for field in _schema()}:
            raise ValueError("other columns")
        sizes = parse_json(file.metadata.metadata[_SIZES.encode()].decode())
    if misfit(sizes, [int]):
        raise ValueError("no sizes of shards")
    return sizes


@contextmanager
def _damage_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Arrow raises many kinds of error for damage
        raise UserError(
            f"{folder / MANIFEST}: damaged; start the same ser-tf prepare command again and it is redone"
        ) from error


class ShardUtterance(NamedTuple):
    """An utterance in a manifest."""

    name: str
    speaker: str
    sex: str | None
    path: str
    """Relative to the root of its corpus."""
    sample_hash: int


@dataclass(frozen=True)
class Shards:
    """The shards of one or several corpora.

    Attributes:
        folders: written by `ser-tf prepare`.
        paths: the shards.
    """

    folders: tuple[Path, ...]
    paths: tuple[Path, ...]

    @classmethod
    def open(cls, folders: Sequence[Path], config: Config) -> "Shards":
        """Open finished folders.

        Raises:
            UserError: a folder is unfinished, lacks a shard, holds a truncated one, was prepared with a different
                configuration, or is given twice; or two folders use one name for what may be two people.
        """
        require_pyarrow()
        again = "start the same ser-tf prepare command again"
        paths: list[Path] = []
        for number, folder in enumerate(folders):
            description = read_description(folder)
            refuse_other_configuration(description, config, folder)
            if not (folder / MANIFEST).is_file():
                raise UserError(f"{folder}: not finished; {again} and it continues")
            if any(folder.samefile(other) for other in folders[:number]):
                raise UserError(f"{folder}: expected each folder of shards once. Received: this one twice")
            with _damage_explained(folder):
                sizes = _sizes(folder)
            for shard, size in enumerate(sizes):
                path = folder / f"shard-{shard:05d}.tfrecord"
                if not path.is_file():
                    raise UserError(f"{path}: missing; {again} and it is redone")
                if path.stat().st_size != size:
                    raise UserError(
                        f"{path}: expected {size:,} bytes. Received: {path.stat().st_size:,}; {again} and it is redone"
                    )
                paths.append(path)
        opened = cls(tuple(folders), tuple(paths))
        if len(folders) > 1:
            opened._refuse_namesakes()
        return opened

    @cached_property
    def counts(self) -> dict[str, int]:
        """Speaker -> number of utterances, sorted by speaker."""
        return dict(sorted(Counter(name for speakers in self._columns("speaker") for name in speakers).items()))

    @property
    def failed(self) -> int:
        """Number of recordings that could not be used; `failed.csv` names them."""
        failed = 0
        for folder in self.folders:
            if (folder / FAILED).is_file():
                with (folder / FAILED).open(newline="", encoding="utf-8") as file:
                    failed += sum(1 for _ in csv.DictReader(file))
        return failed

    def utterances(self) -> Iterator[ShardUtterance]:
        """Every utterance, in the order of the shards."""
        for columns in self._columns(*ShardUtterance._fields):
            yield from map(ShardUtterance._make, zip(*columns, strict=True))

    def sample_hashes(self, speakers: Iterable[str] | None = None) -> np.ndarray:
        """Sample hashes of the recordings, uint64 [N], for the provenance of weights trained on them.

        Args:
            speakers: only their recordings; None for all.
        """
        wanted = set(self.counts if speakers is None else speakers)
        return np.array(
            [
                sample_hash
                for names, hashes in self._columns("speaker", "sample_hash")
                for name, sample_hash in zip(names, hashes, strict=True)
                if name in wanted
            ],
            np.uint64,
        )

    def _refuse_namesakes(self) -> None:
        """Refuse a speaker name from two roots, unless the name comes from a known corpus."""
        root_of: dict[str, str] = {}
        for folder in self.folders:
            root = read_description(folder)["root"]
            for speaker in Shards((folder,), ()).counts:
                corpus = speaker.partition(":")[0]
                if corpus not in RECOGNISED and root_of.setdefault(speaker, root) != root:
                    raise UserError(
                        f"{folder}: expected different people under different names. Received: {speaker} from {root} "
                        f"and from {root_of[speaker]}; if they are two people, rename one root (in a table: its "
                        "speakers) and prepare it again; if one, prepare a folder that holds both"
                    )

    def _columns(self, *names: str) -> Iterator[Any]:
        """Columns of the manifests as lists, batch by batch; a single column comes without an outer list."""
        import pyarrow.parquet

        for folder in self.folders:
            with _damage_explained(folder), pyarrow.parquet.ParquetFile(folder / MANIFEST) as file:
                for batch in file.iter_batches(columns=list(names)):
                    if any(batch.column(name).null_count for name in names if name != "sex"):
                        raise ValueError("a value is missing")
                    columns = [batch.column(name).to_pylist() for name in names]
                    yield columns[0] if len(names) == 1 else columns
