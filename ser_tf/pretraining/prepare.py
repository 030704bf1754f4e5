"""A corpus of speakers -> a folder of shards, on one machine or on a cluster."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
    write_manifest,
)
from ser_tf.pretraining.plan import Plan
from ser_tf.pretraining.ray_engine import run_on_ray
from ser_tf.pretraining.shard_writer import UNFINISHED, ShardTask
from ser_tf.pretraining.workers import run_on_cores
from ser_tf.runs.lock import alone_in


@dataclass(frozen=True)
class Prepared:
    """What came out.

    Attributes:
        out: the folder.
        shards: how many there are.
        written: how many of them were written now; the others stood.
        utterances: recordings in the shards.
        failed: recordings that are in none; `failed.csv` names them and the reasons.
        speakers: how many there are.
        speakers_with_one: those of a single utterance, who can be trained on and not verified.
        seconds: length of the speech.
        recorded_seconds: the same with silence.
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
        """All of it in one line."""
        single = f" ({self.speakers_with_one} with a single one)" if self.speakers_with_one else ""
        return (
            f"{self.out}: {self.utterances:,} utterances of {self.speakers:,} speakers{single}, "
            f"{self.seconds / 3600:.2f} h of speech in {self.recorded_seconds / 3600:.2f} h recorded, "
            f"{self.shards} shards ({self.written} written now), {self.megabytes:,.0f} MB"
        )


def no_prologue() -> None:
    """What a worker does first unless it is told otherwise."""


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
    """Decode, resample and free of silence every recording, and write the speech in shards.

    Shards that stand are kept, so that what was interrupted goes on, and a second time nothing is done. The memory does
    not grow with the number of recordings.

    Args:
        root: a folder of speakers or any known corpus, or a table.
        out: folder of the shards: an empty one, or one that a call with the same corpus and configuration began.
        config: decoder and silence removal; the rest does not matter.
        engine: processes on this machine, or a Ray cluster.
        workers: shards that are written at the same time; None for one per core.
        prologue: what each worker does first; it must be importable.
        report: takes one line about what goes on.

    Returns:
        What the shards hold. Recordings that cannot be used are counted and do not stop the others.

    Raises:
        UserError: no corpus of speakers, another preparation in `out` or one that is at work there, a full disk, a
            package that is missing, or a recording that kills the workers.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers: expected at least 1. Received: workers={workers}")
    decoder_of(config)  # says what is missing before anything is done
    plan = Plan(root)
    lists = read_lists(root)
    if plan.has_m4a:
        from ser_tf.audio import m4a_backend  # an extra: only who has such files needs it

        m4a_backend.require_av()
    description = description_of(root, plan.shards, config)
    with _opened(out, description, config):
        tasks = [ShardTask(shard._replace(rows=()), plan.folder, out, config) for shard in plan]
        missing = {task.shard.number for task in tasks if not task.finished()}
        report(f"{out}: {plan.recordings:,} recordings of {plan.speakers:,} speakers, {len(missing)} shards to write")
        if missing:
            (out / MANIFEST).unlink(missing_ok=True)  # it would not tell of the new ones
        wanted = (ShardTask(shard, plan.folder, out, config) for shard in plan if shard.number in missing)
        if missing and engine == "local":
            cores = workers or len(os.sched_getaffinity(0))
            _follow(run_on_cores(wanted, min(cores, len(missing)), prologue, report), len(missing))
        elif missing:
            _follow(run_on_ray(wanted, workers, prologue, report), len(missing))
        try:
            sums = write_manifest(out, description, (task.page for task in tasks), plan.problems(), lists)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error  # Arrow's own text is longer
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
    """The folder of shards of a corpus: itself where it is one, otherwise one in `beside`, prepared now or before.

    Args:
        root: shards of `ser-tf prepare`, or what that command takes.
        beside: folder for shards; a corpus and its silence removal have one of their own there.
        config: decoder and silence removal.
        report: takes one line about what goes on.
        prologue: what each worker does first.
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
    """Show how far it is, where somebody watches."""
    console = Console(file=sys.stderr)
    shown = track(
        finished, "writing shards", total=total, console=console, transient=True, disable=not console.is_terminal
    )
    for _ in shown:
        pass


@contextmanager
def _opened(out: Path, description: dict[str, Any], config: Config) -> Iterator[None]:
    """The folder for this process alone, new or begun by a call with the same corpus and configuration.

    Raises:
        UserError: it holds something else, or another process is at work in it.
    """
    path = out / DESCRIPTION
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(not file.name.startswith(UNFINISHED) for file in out.iterdir())):
            raise UserError(f"{out}: expected an empty folder, or one that ser-tf prepare began; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        unfinished = out / f"{UNFINISHED}{DESCRIPTION}"
        unfinished.write_text(json.dumps(description, indent=2) + "\n")
        unfinished.replace(path)
    before = read_description(out)
    refuse_other_configuration(before, config, out)
    for key, what in (("root", "corpus"), ("shards", "number of shards, and so other recordings")):
        if before[key] != description[key]:
            raise UserError(
                f"{out}: holds shards of another {what} ({before[key]}, and now {description[key]}); choose another "
                "--out or remove the folder"
            )
    with alone_in(out):
        yield
