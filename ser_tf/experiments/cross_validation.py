"""Cross-validation over strategies and seeds; finished runs are kept, interrupted ones resume at their last epoch."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from ser_tf.config import Config, changed
from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.demographics import demographics_of
from ser_tf.corpora.folds import Scheme
from ser_tf.errors import UserError
from ser_tf.pipeline import prepare_speech
from ser_tf.ray_cluster import ClusterTask, run_tasks
from ser_tf.runs.files import write_json
from ser_tf.runs.folder import RunFolder
from ser_tf.statistics.summary import Summary, summarise
from ser_tf.statistics.table import read_predictions
from ser_tf.strategies import configure, start_in_words
from ser_tf.training.finetune import finetune
from ser_tf.training.fold_network import FoldNetwork
from ser_tf.training.fold_task import FoldTask
from ser_tf.training.sides import without_contradictions


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """The product of folds, seeds and strategies, a run each.

    Attributes:
        corpus: the utterances.
        scheme: its folds.
        config: preset and changes; each of `seeds` replaces its seed.
        strategies: S1 to S5.
        folds: numbers of the folds.
        seeds: of initial weights, batches and crops.
        weights: file that every run starts from; None for random weights.
        start_from: strategy in the same folder whose weights of the same fold and seed every run starts from.
        folder: contains the runs as STRATEGY-foldN-seedN.
    """

    corpus: Corpus
    scheme: Scheme
    config: Config
    strategies: Sequence[str]
    folds: Sequence[int]
    seeds: Sequence[int]
    weights: Path | None
    start_from: str | None
    folder: Path

    def run_folder(self, strategy: str, fold: int, seed: int) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.folder / f"{strategy}-fold{fold}-seed{seed}")

    def check(self) -> None:
        """Refuse impossible runs before any training.

        Raises:
            UserError: a fold or strategy does not exist, or a strategy does not fit the configuration or the weights.
        """
        for fold in self.folds:
            self.scheme.fold(fold)
        if self.weights is not None and self.start_from is not None:
            raise UserError("weights and start_from: expected one of the two at most. Received: both")
        started = self.weights is not None or self.start_from is not None
        for strategy in self.strategies:
            configure(strategy, self.config, weights=started)
        if self.start_from is not None:
            for fold, seed in product(self.folds, self.seeds):
                self.run_folder(self.start_from, fold, seed).require_finished()

    def tasks(self) -> list[FoldTask]:
        """All runs, fold by fold, so that a table of the first folds is balanced.

        Raises:
            UserError: as `check`, or a fold lacks speech to train or test on, or a folder holds another run.
        """
        self.check()
        corpus, prepared = without_contradictions(self.corpus, prepare_speech(self.corpus.utterances, self.config))
        tasks = []
        for fold, seed, strategy in product(self.folds, self.seeds, self.strategies):
            config = changed(self.config, {"training.seed": seed})
            weights = self.weights
            if self.start_from is not None:
                weights = self.run_folder(self.start_from, fold, seed).weights
            task = FoldTask.make(corpus, self.scheme, fold, strategy, config, weights, prepared)
            run = self.run_folder(strategy, fold, seed)
            if run.identity.is_file():
                run.begin(task.identity(), task.config)  # refuses another run
            tasks.append(task)
        return tasks

    def spread(self, tasks: Sequence[FoldTask], report: Callable[[str], None]) -> None:
        """Train and test the unfinished runs on a Ray cluster, a task each; `run` then finds them finished.

        Args:
            tasks: from `tasks`.
            report: receives a line per finished or lost run.

        Raises:
            UserError: a run cannot be trained, or as `ser_tf.ray_cluster.run_tasks`.
        """
        runs = [(task.strategy_name, task.fold.number, task.config.training.seed) for task in tasks]
        unfinished = (
            ClusterTask(
                folder.path,
                dataclasses.replace(self, strategies=[strategy], folds=[fold], seeds=[seed]),
                folder.metrics.is_file,
            )
            for strategy, fold, seed in runs
            if not (folder := self.run_folder(strategy, fold, seed)).finished
        )
        for name in run_tasks(train_alone, unfinished, report, trains=True):
            report(f"{name}: finished")

    def run(self, tasks: Sequence[FoldTask], report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Train and test the unfinished runs.

        The runs of a strategy share one compiled network, whose initial weights are restored before each run.

        Args:
            tasks: from `tasks`.
            report: receives a line per step.

        Yields:
            The content of each run's `metrics.json`, in the order of the tasks.

        Raises:
            UserError: a run cannot be trained.
        """
        networks: dict[str, FoldNetwork] = {}
        seconds: dict[str, list[float]] = defaultdict(list)
        runs = [self.run_folder(task.strategy_name, task.fold.number, task.config.training.seed) for task in tasks]
        for number, (task, run) in enumerate(zip(tasks, runs, strict=True), start=1):
            strategy, start = task.strategy_name, start_in_words(task.identity()["weights"])
            unfinished = [left for left, its_run in zip(tasks, runs, strict=True) if not its_run.finished]
            to_go = time_to_go([left.strategy_name for left in unfinished], seconds)
            report(f"{run.path}: run {number} of {len(tasks)}, {strategy} from {start}{to_go}")
            if not run.finished and strategy not in networks:
                networks[strategy] = FoldNetwork(task)
            began, whole = time.monotonic(), not run.finished and not run.state.is_file()
            yield finetune(task, run, report, networks.get(strategy))
            if whole:
                seconds[strategy].append(time.monotonic() - began)

    def summarise(self) -> Summary:
        """The statistics of all runs, which must be finished; written to `summary-STRATEGIES.json`.

        Raises:
            UserError: the runs were tested on different utterances, so that their scores cannot be compared.
        """
        folders = [self.run_folder(*run).path for run in product(self.strategies, self.folds, self.seeds)]
        demographics = demographics_of(self.corpus.speakers, self.corpus.roots)
        summary = summarise(read_predictions(folders), demographics)
        write_json(self.folder / f"summary-{'-'.join(self.strategies)}.json", dataclasses.asdict(summary))
        return summary


def train_alone(one: CrossValidation) -> Path:
    """Train and test the only run of a cross-validation, on a node of a cluster; its folder."""
    (task,) = one.tasks()
    run = one.run_folder(task.strategy_name, task.fold.number, task.config.training.seed)
    finetune(task, run, report=print)
    return run.path


def time_to_go(remaining: Sequence[str], seconds: dict[str, list[float]]) -> str:
    """Remaining time, from this call's mean per strategy; empty until each remaining strategy has a finished run."""
    if not remaining or not all(seconds.get(strategy) for strategy in remaining):
        return ""
    minutes = sum(mean(seconds[strategy]) for strategy in remaining) / 60
    return f", about {minutes / 60:.1f} h to go" if minutes >= 90 else f", about {minutes:.0f} min to go"
