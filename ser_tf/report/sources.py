"""Search folders for runs, sweeps and noise tests, and read them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ser_tf.documents import read_json
from ser_tf.errors import UserError
from ser_tf.report.evaluations import Evaluation, ReportedRun, evaluations_of, read_columns, read_run
from ser_tf.report.figures import setting
from ser_tf.runs.folder import RunFolder
from ser_tf.statistics.noise import NoiseSummary, summarise_noise
from ser_tf.statistics.noise_folder import NoiseFolder

SWEEP, NOISE = "sweep.json", "noise.csv"
UNCHANGED = "none"
"""Change of an ablation's first point."""
SWEEP_COLUMNS = ("fold", "seed", "best_validation_uar")


@dataclass(frozen=True)
class SweepTable:
    """Result of `ser-tf sweep`, on validation speakers."""

    folder: Path
    corpus: str
    scheme: str
    strategy: str
    start: str
    parameters: tuple[str, ...]
    """Of an ablation just "change"."""
    points: int
    """Number of points in the whole grid."""
    epochs: int
    rows: pd.DataFrame
    """A row per training, with the columns fold, seed, the parameters, best_validation_uar."""
    ablation: bool
    """Whether one parameter at a time is changed."""


@dataclass(frozen=True)
class NoiseTest:
    """Result of `ser-tf noise`."""

    folder: Path
    corpus: str
    finished: bool
    summary: NoiseSummary


@dataclass(frozen=True)
class Sources:
    """Everything a report is made of."""

    evaluations: tuple[Evaluation, ...]
    sweeps: tuple[SweepTable, ...]
    noise_tests: tuple[NoiseTest, ...]
    others: tuple[Path, ...]
    """Run folders that belong to no evaluation."""


def find_sources(folders: Sequence[Path]) -> Sources:
    """Search folders at any depth; a folder found twice counts once.

    Raises:
        UserError: a folder does not exist or holds nothing to report, or a file in it is damaged.
    """
    runs: dict[Path, ReportedRun | None] = {}
    sweeps: dict[Path, SweepTable] = {}
    noise_tests: dict[Path, NoiseTest] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a folder of runs; there is none")
        found = 0
        for path in _walk(folder):
            found += 1
            if (path / NOISE).is_file():
                noise_tests[path.resolve()] = _read_noise(path)
            elif (path / SWEEP).is_file():
                sweeps[path.resolve()] = _read_sweep(path)
            else:
                runs[path.resolve()] = read_run(RunFolder(path))
        if not found:
            raise UserError(
                f"{folder}: expected runs, a sweep or a noise test. Received: a folder without; give what ser-tf "
                "evaluate, finetune, yardsticks or sweep wrote"
            )
    return Sources(
        evaluations=evaluations_of([run for run in runs.values() if run is not None]),
        sweeps=tuple(sweeps.values()),
        noise_tests=tuple(noise_tests.values()),
        others=tuple(path for path, run in runs.items() if run is None),
    )


def _walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Folders of runs, sweeps and noise tests; folders inside these are not searched."""
    if any((folder / name).is_file() for name in ("run.json", SWEEP, NOISE)):
        yield folder
        return
    here = folder.resolve()
    for child in sorted(folder.iterdir()):
        if here not in above and child.is_dir():  # a link may lead back to its own folder
            yield from _walk(child, (*above, here))


def _read_sweep(folder: Path) -> SweepTable:
    remedy = "start the same ser-tf sweep command again"
    wanted = {
        **dict.fromkeys(("corpus", "scheme", "strategy"), str),
        "start": (str, None),
        "afresh": [str],
        "parameters": {str: [object]},
        "epochs": int,
    }
    about = {"one_at_a_time": False} | read_json(folder / SWEEP, remedy, wanted)
    parameters = tuple(about["parameters"])
    rows = read_columns(folder / "sweep.csv", (*SWEEP_COLUMNS, *parameters), remedy)
    whole = all(pd.api.types.is_integer_dtype(rows[name]) for name in ("fold", "seed"))
    scores = pd.to_numeric(rows["best_validation_uar"], errors="coerce")
    if not (parameters and whole and scores.between(0, 1).all() and rows[list(parameters)].notna().all(axis=None)):
        raise UserError(
            f"{folder / 'sweep.csv'}: expected folds and seeds in whole numbers, and UARs from 0 to 1; {remedy}"
        )
    start = ", ".join([about["start"] or "random weights", *(f"{layer} afresh" for layer in about["afresh"])])
    points = math.prod(len(values) for values in about["parameters"].values())
    ablation = about["one_at_a_time"] is True
    if ablation:
        first = {name: setting(values[0]) for name, values in about["parameters"].items()}
        rows = rows.assign(change=[_change(row, first) for row in rows[list(parameters)].to_dict("records")])
        parameters, points = ("change",), 1 + sum(len(values) - 1 for values in about["parameters"].values())
    return SweepTable(
        folder,
        about["corpus"],
        about["scheme"],
        about["strategy"],
        start,
        parameters,
        points,
        about["epochs"],
        rows,
        ablation,
    )


def _change(point: Mapping[Any, Any], first: dict[str, str]) -> str:
    """What sets a point of an ablation apart from its first one."""
    changes = [f"{name} {setting(value)}" for name, value in point.items() if setting(value) != first[name]]
    return ", ".join(changes) or UNCHANGED


def _read_noise(path: Path) -> NoiseTest:
    folder = NoiseFolder(path)
    about = folder.read_about()
    return NoiseTest(path, about["settings"]["corpus"], "summary" in about, summarise_noise(folder))
