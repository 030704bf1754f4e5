"""A grid over parameters, or an ablation: a training per point and fold, evaluated only on validation speakers."""

import dataclasses
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import keras

from ser_tf.config import Config, changed
from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.folds import Scheme
from ser_tf.documents import parse_yaml, read_json
from ser_tf.errors import UserError
from ser_tf.experiments.cross_validation import time_to_go
from ser_tf.pipeline import PreparedSpeech, prepare_speech
from ser_tf.ray_cluster import ClusterTask, run_tasks
from ser_tf.runs.files import write_csv, write_json
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.provenance import environment
from ser_tf.training.finetune import train_fold
from ser_tf.training.fold_task import FoldTask
from ser_tf.training.sides import without_contradictions

OPTIMISTIC = (
    "Scores of validation speakers at their best epoch: these scores are optimistic; use them only to choose settings. "
    "The folds' own test speakers were not used."
)
FINISHED = "validation.json"
"""Last file written to a training's folder. The folder has no metrics.json, so it cannot be used as a run."""


@dataclass(frozen=True)
class SweepOutcome:
    """Result of one training.

    Attributes:
        fold: counted from 1.
        seed: of initial weights, batches and crops.
        parameters: full name -> value, of the point.
        validation_uar: UAR after each epoch that may be kept.
    """

    fold: int
    seed: int
    parameters: dict[str, Any]
    validation_uar: list[float]


@dataclass(frozen=True)
class Sweep:
    """The product of folds, seeds and points, a training each.

    Attributes:
        corpus: the utterances.
        scheme: its folds.
        config: preset and changes; each of `seeds` replaces its seed.
        strategy: S1 to S5.
        grid: full name of each parameter -> its values.
        folds: numbers of the folds.
        seeds: of initial weights, batches and crops.
        weights: file that every training starts from; None for random weights or `start_from`.
        start_from: FOLDER/STRATEGY of runs from `evaluate`; each training starts from the run of its fold and seed.
        folder: contains a folder per training, and `sweep.csv` and `sweep.json` about all of them.
        one_at_a_time: the points are the first value of every parameter, and that point with one value changed; by
            default they are the product of all values.
    """

    corpus: Corpus
    scheme: Scheme
    config: Config
    strategy: str
    grid: Mapping[str, Sequence[Any]]
    folds: Sequence[int]
    seeds: Sequence[int]
    weights: Path | None
    start_from: Path | None
    folder: Path
    one_at_a_time: bool = False

    @property
    def points(self) -> list[dict[str, Any]]:
        """Full name -> value of each parameter, for each point."""
        if not self.one_at_a_time:
            return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        first = {name: values[0] for name, values in self.grid.items()}
        return [first, *(first | {name: value} for name, values in self.grid.items() for value in values[1:])]

    def label(self, point: Mapping[str, Any]) -> str:
        """The point as text that is safe in a folder name; with `one_at_a_time`, the change."""
        first = _plain(self.points[0])
        named = {name: value for name, value in point.items() if not self.one_at_a_time or _plain(value) != first[name]}
        values = {name: re.sub(r"[\s()\[\]]", "", str(value)) for name, value in named.items()}
        return "-".join(f"{name}={value}" for name, value in values.items()) or "unchanged"

    def run(self, report: Callable[[str], None]) -> None:
        """Do the unfinished trainings, fold by fold, so that a table of the first folds is balanced.

        Args:
            report: receives a line per step.

        Raises:
            UserError: a point, a fold or the weights do not fit together, or the folder holds another sweep.
        """
        runs = self._runs()
        self._begin(runs[0][1])
        left = sum(not (run.path / FINISHED).is_file() for run, *_ in runs)
        seconds: dict[str, list[float]] = {"": []}
        for number, (run, task, point) in enumerate(runs, start=1):
            if (run.path / FINISHED).is_file():
                run.begin(task.identity(), task.config)
                report(f"{run.path}: already finished")
                continue
            report(f"{run.path}: run {number} of {len(runs)}{time_to_go([''] * left, seconds)}")
            began = time.monotonic()
            keras.backend.clear_session()
            _train(run, task, point, report)
            self._write_table()
            seconds[""].append(time.monotonic() - began)
            left -= 1
        self._write_table()

    def spread(self, report: Callable[[str], None]) -> None:
        """Do the unfinished trainings on a Ray cluster, a task each; `run` then finds them finished.

        Raises:
            UserError: as `run` and `ser_tf.ray_cluster.run_tasks`.
        """
        runs = self._runs()
        self._begin(runs[0][1])
        unfinished = (
            ClusterTask(
                run.path,
                (
                    dataclasses.replace(self, folds=[task.fold.number], seeds=[task.config.training.seed]),
                    self.points.index(point),
                ),
                (run.path / FINISHED).is_file,
            )
            for run, task, point in runs
            if not (run.path / FINISHED).is_file()
        )
        for name in run_tasks(train_point, unfinished, report, trains=True):
            self._write_table()
            report(f"{name}: finished")

    def outcomes(self) -> list[SweepOutcome]:
        """Every finished training in the folder, also of other calls, sorted by fold, seed and point."""
        remedy = "remove its folder and start again"
        points = [_plain(point) for point in self.points]
        found = []
        for path in self.folder.glob(f"*/{FINISHED}"):
            content = read_json(path, remedy, {"fold": int, "seed": int, "parameters": dict, "validation_uar": [float]})
            outcome = SweepOutcome(**{name: content[name] for name in SweepOutcome.__dataclass_fields__})
            if outcome.parameters not in points or not outcome.validation_uar:
                raise UserError(f"{path}: expected the epochs of a point of this grid; {remedy}")
            found.append(outcome)
        return sorted(found, key=lambda outcome: (outcome.fold, outcome.seed, points.index(outcome.parameters)))

    def table(self) -> str:
        """Best validation UAR of each point in percent, over the folds that every point has finished."""
        shape = {"strategy": str, "start": (str, None), "afresh": [str]}
        about = read_json(self.folder / "sweep.json", "start the sweep again", shape)
        best: dict[tuple[int, int], dict[str, float]] = {}
        for outcome in self.outcomes():
            place = best.setdefault((outcome.fold, outcome.seed), {})
            place[self.label(outcome.parameters)] = 100 * max(outcome.validation_uar)
        labels = [self.label(point) for point in self.points]
        several_seeds = len({seed for _, seed in best}) > 1
        names = {place: f"fold {place[0]}" + (f" seed {place[1]}" if several_seeds else "") for place in best}
        whole = {names[place]: uars for place, uars in best.items() if len(uars) == len(labels)}
        width = max(map(len, labels))
        start = ", ".join([about["start"], *(f"{layer} afresh" for layer in about["afresh"])])
        lines = [
            f"{about['strategy']} from {start}: best validation UAR in percent",
            f"{'':<{width}}  {'  '.join(whole)}    mean  range",
        ]
        for label in labels:
            uars = [place[label] for place in whole.values()]
            cells = "  ".join(f"{uar:{len(name)}.1f}" for uar, name in zip(uars, whole, strict=True))
            lines.append(f"{label:<{width}}  {cells}  {mean(uars):6.1f} {max(uars) - min(uars):6.1f}")
        partial = [name for name in names.values() if name not in whole]
        if partial:
            lines.append(f"Not shown until every point has finished: {', '.join(partial)}.")
        return "\n".join([*lines, OPTIMISTIC])

    def _runs(self) -> list[tuple[RunFolder, FoldTask, dict[str, Any]]]:
        """Folder, task and point of every training."""
        return [
            (RunFolder(self.folder / f"fold{fold}-seed{seed}-{self.label(point)}"), task, point)
            for fold, seed, point, task in self._tasks()
        ]

    def _tasks(self) -> list[tuple[int, int, dict[str, Any], FoldTask]]:
        """All trainings; impossible ones are refused before the first begins."""
        if self.weights is not None and self.start_from is not None:
            raise UserError("weights and start_from: expected one of the two at most. Received: both")
        prepared: dict[Any, tuple[Corpus, PreparedSpeech]] = {}
        tasks = []
        for fold, seed, point in product(self.folds, self.seeds, self.points):
            config = changed(self.config, {**_plain(point), "training.seed": seed})
            weights = self.weights
            if self.start_from is not None:
                start = RunFolder(Path(f"{self.start_from}-fold{fold}-seed{seed}"))
                start.require_finished()
                weights = start.weights
            self.scheme.fold(fold)
            read_by = (config.audio, config.vad)
            if read_by not in prepared:
                prepared[read_by] = without_contradictions(self.corpus, prepare_speech(self.corpus.utterances, config))
            corpus, speech = prepared[read_by]
            task = FoldTask.make(
                corpus, self.scheme, fold, self.strategy, config, weights, speech, compared=list(self.grid)
            )
            tasks.append((fold, seed, point, task))
        return tasks

    def _begin(self, task: FoldTask) -> None:
        """Open a new folder, or check that an existing one holds the same grid."""
        start = "random weights" if self.weights is None else str(self.weights)
        if self.start_from is not None:
            start = f"{self.start_from}-foldN-seedN"
        configuration = _plain(dataclasses.asdict(self.config))
        del configuration["training"]["seed"]
        about = {
            "corpus": self.corpus.name,
            **self.corpus.composition,
            "data_hash": task.prepared.data_hash,
            "scheme": self.scheme.name,
            "scheme_hash": self.scheme.hash,
            "strategy": self.strategy,
            "start": start,
            "afresh": list(task.afresh),
            "parameters": _plain(dict(self.grid)),
            "one_at_a_time": self.one_at_a_time,
            "epochs": task.schedule().epochs,
            "judged_on": "validation speakers",
            "configuration": configuration,
        }
        path = self.folder / "sweep.json"
        if path.is_file():
            before = read_json(path, "choose another --run", dict)
            before.setdefault("one_at_a_time", False)
            other = [key for key in about if before.get(key) != about[key] and key != "epochs"]  # vary by fold
            if other:
                raise UserError(f"{self.folder}: holds a sweep with another {', '.join(other)}; choose another --run")
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UserError(f"{self.folder}: expected the folder of a sweep or an empty one; choose another --run")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, about | {"made_with": environment()})

    def _write_table(self) -> None:
        rows: list[list[Any]] = [["fold", "seed", *self.grid, "best_validation_uar", "best_epoch", "per_epoch"]]
        for outcome in self.outcomes():
            uars = outcome.validation_uar
            values = [outcome.parameters[name] for name in self.grid]
            per_epoch = " ".join(f"{uar:.4f}" for uar in uars)
            best = f"{max(uars):.4f}"
            rows.append([outcome.fold, outcome.seed, *values, best, 1 + uars.index(max(uars)), per_epoch])
        write_csv(self.folder / "sweep.csv", rows)


def train_point(one: tuple[Sweep, int]) -> Path:
    """Do the training of one point of a sweep with one fold and seed, on a node of a cluster; its folder."""
    sweep, place = one
    run, task, point = sweep._runs()[place]
    _train(run, task, point, print)
    return run.path


def _train(run: RunFolder, task: FoldTask, point: dict[str, Any], report: Callable[[str], None]) -> None:
    with run.alone():
        _, progress = train_fold(task, run, report)
        uars = [epoch["validation_uar"] for epoch in progress.epochs]
        if task.config.training.schedule == "cosine":
            uars = uars[-1:]  # only the last epoch may be kept
        outcome = SweepOutcome(task.fold.number, task.config.training.seed, point, uars)
        write_json(run.path / FINISHED, dataclasses.asdict(outcome))
        run.state.unlink()


def parse_grid(texts: Sequence[str], config: Config) -> dict[str, tuple[Any, ...]]:
    """Parameters and their values from lines like `network.clusters=2,4,8`, values as in a configuration's YAML.

    Args:
        texts: a parameter each.
        config: the other parameters, which may restrict the values.

    Raises:
        UserError: there is no parameter, one occurs twice, one is unknown, or a value is out of range.
    """
    if not texts:
        raise UserError("over: expected parameters and their values, such as network.clusters=2,4,8. Received: none")
    grid: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        try:
            values = parse_yaml(f"[{listed}]")
        except ValueError:
            values = []
        if not isinstance(values, list) or not values:
            raise UserError(f"over: expected NAME=VALUE,VALUE,... as in network.clusters=2,4,8. Received: {text}")
        if name == "training.seed":
            raise UserError("over: training.seed cannot be swept; use --seeds")
        if name in grid:
            raise UserError(f"over: expected each parameter once. Received: {name} twice")
        room, _, parameter = name.partition(".")
        checked = [getattr(getattr(changed(config, {name: value}), room), parameter) for value in values]
        if len(set(checked)) < len(checked):
            raise UserError(f"over: expected different values of {name}. Received: {listed}")
        grid[name] = tuple(checked)
    return grid


def _plain(value: Any) -> Any:
    """The value after a round trip through JSON."""
    return json.loads(json.dumps(value))
