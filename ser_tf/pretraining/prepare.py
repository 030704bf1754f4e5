"""A corpus of speakers -> a folder of shards, on one machine or on a cluster."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import joblib
from rich.console import Console
from rich.progress import track

from ser_tf.audio.recording import decoder_of, speech_key
from ser_tf.config import Config
from ser_tf.corpora.speakers import read_lists
from ser_tf.errors import UserError
from ser_tf.pretraining.manifest import (
    DESCRIPTION,
    FAILED,
    MANIFEST,
    description_of,
    read_description,
    refuse_other_configuration,
    require_pyarrow,
    write_manifest,
)
from ser_tf.pretraining.plan import Plan
from ser_tf.pretraining.ray_engine import run_on_ray
from ser_tf.pretraining.shard_writer import UNFINISHED, ShardTask
from ser_tf.pretraining.workers import run_on_cores
from ser_tf.runs.files import write_json
from ser_tf.runs.lock import LOCK, alone_in


@dataclass(frozen=True)
class Prepared:
    """The result of a preparation.

    Attributes:
        out: the folder.
        shards: number of shards.
        written: number of shards written now; the others existed.
        utterances: number of recordings in the shards.
        failed: number of recordings in no shard; `failed.csv` gives their names and the reasons.
        speakers: number of speakers.
        speakers_with_one: speakers with a single utterance, who can be trained on but not verified.
        seconds: length of the speech.
        recorded_seconds: length including silence.
        megabytes: size of the shards.
    """

    out: Path
    shards: int
    written: int
    utterances: int
    failed: int
    speakers: int
    speakers_with_one: int
    seconds: float
    recorded_seconds: float
    megabytes: float

    @property
    def sentence(self) -> str:
        """The result in one line."""
        single = f" ({self.speakers_with_one} with a single one)" if self.speakers_with_one else ""
        return (
            f"{self.out}: {self.utterances:,} utterances of {self.speakers:,} speakers{single}, "
            f"{self.seconds / 3600:.2f} h of speech in {self.recorded_seconds / 3600:.2f} h recorded, "
            f"{self.shards} shards ({self.written} written now), {self.megabytes:,.0f} MB"
        )


def no_prologue() -> None:
    """The default prologue of a worker: nothing."""


def prepare(
    root: Path,
    out: Path,
    config: Config,
    *,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    prologue: Callable[[], None] = no_prologue,
    report: Callable[[str], None],
) -> Prepared:
    """Decode and resample every recording, remove its silence, and write the speech in shards.

    Finished shards are kept: an interrupted preparation continues, and a finished one does nothing. Memory does not
    grow with the number of recordings.

    Args:
        root: a folder of speakers, a known corpus, or a table.
        out: folder of the shards: empty, or begun by a call with the same corpus and configuration.
        config: decoder and silence removal; the rest is not used.
        engine: processes on this machine, or a Ray cluster.
        workers: number of shards written at the same time; None for one per core.
        prologue: called first in each worker; it must be importable.
        report: receives progress messages, one line each.

    Returns:
        The content of the shards. Recordings that cannot be used are counted and do not stop the others.

    Raises:
        UserError: `root` is no corpus of speakers; `out` holds a different preparation, or another process is writing
            it; the disk is full; a package is missing; or a recording kills the workers.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers: expected at least 1. Received: workers={workers}")
    require_pyarrow()
    decoder_of(config)  # raises here if a package is missing
    plan = Plan(root)
    lists = read_lists(root)
    if plan.has_m4a:
        from ser_tf.audio import m4a_backend  # an extra, needed for these files only

        m4a_backend.require_av()
    description = description_of(root, plan.shards, config)
    with _opened(out, description, config):
        tasks = [ShardTask(shard._replace(rows=()), plan.folder, out, config) for shard in plan]
        missing = {task.shard.number for task in tasks if not task.finished()}
        report(f"{out}: {plan.recordings:,} recordings of {plan.speakers:,} speakers, {len(missing)} shards to write")
        if missing:
            (out / MANIFEST).unlink(missing_ok=True)  # it does not list the shards written now
        wanted = (ShardTask(shard, plan.folder, out, config) for shard in plan if shard.number in missing)
        if missing and engine == "local":
            cores = workers or joblib.cpu_count()  # those that this process may use
            _follow(run_on_cores(wanted, min(cores, len(missing)), prologue, report), len(missing))
        elif missing:
            _follow(run_on_ray(wanted, workers, prologue, report), len(missing))
        try:
            sums = write_manifest(out, description, (task.page for task in tasks), plan.problems(), lists)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error  # Arrow's own message is longer
            raise UserError(
                f"{out / MANIFEST}: cannot be written ({reason}); make room and start the same command again"
            ) from error
        for leftover in out.glob(f"{UNFINISHED}*"):  # of a killed call or a lost node
            leftover.unlink(missing_ok=True)
    size = sum(task.records.stat().st_size for task in tasks)
    return Prepared(out, plan.shards, len(missing), megabytes=size / 1e6, **sums)


def shards_of(
    root: Path,
    beside: Path,
    config: Config,
    report: Callable[[str], None],
    prologue: Callable[[], None] = no_prologue,
) -> Path:
    """The folder of shards of a corpus: `root` if it holds shards, otherwise one in `beside`, prepared if necessary.

    Args:
        root: shards of `ser-tf prepare`, or a corpus as that command takes it.
        beside: parent folder; each corpus and silence removal has its own folder in it.
        config: decoder and silence removal.
        report: receives progress messages, one line each.
        prologue: called first in each worker.
    """
    if (root / DESCRIPTION).is_file():
        return root
    named = hashlib.blake2b(f"{root.resolve()} {speech_key(config)}".encode(), digest_size=4).hexdigest()
    prepared = prepare(root, beside / f"{root.resolve().stem}-{named}", config, prologue=prologue, report=report)
    report(prepared.sentence)
    if prepared.failed:
        report(failures(prepared))
    return prepared.out


def failures(prepared: Prepared) -> str:
    """One line about the recordings that could not be used."""
    return (
        f"{prepared.failed} of {prepared.failed + prepared.utterances} recordings could not be used; "
        f"{prepared.out / FAILED} names them and the reasons"
    )


def _follow(finished: Iterator[int], total: int) -> None:
    """Consume the shard numbers, with a progress bar on a terminal."""
    console = Console(file=sys.stderr)
    shown = track(
        finished, "writing shards", total=total, console=console, transient=True, disable=not console.is_terminal
    )
    for _ in shown:
        pass


@contextmanager
def _opened(out: Path, description: dict[str, Any], config: Config) -> Iterator[None]:
    """Lock the folder, new or begun by a call with the same corpus and configuration.

    Raises:
        UserError: it holds something else, or another process is writing it.
    """
    path = out / DESCRIPTION
    if not path.is_file():
        if out.exists() and (
            not out.is_dir() or any(not file.name.startswith((UNFINISHED, LOCK)) for file in out.iterdir())
        ):
            raise UserError(f"{out}: expected an empty folder, or one that ser-tf prepare began; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, description)
    before = read_description(out)
    refuse_other_configuration(before, config, out)
    for key, what in (("root", "a different corpus"), ("shards", "different recordings, in another number of shards")):
        if before[key] != description[key]:
            raise UserError(
                f"{out}: holds shards of {what} ({before[key]}, now {description[key]}); choose another --out or "
                "remove the folder"
            )
    with alone_in(out):
        yield
