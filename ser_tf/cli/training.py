"""Commands that train: one fold, or all of them."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ser_tf.cli.options import TrainingOptions, import_tensorflow, name_left_out, open_folds
from ser_tf.errors import UserError

if TYPE_CHECKING:
    from ser_tf.experiments.summary import Summary


@dataclass(frozen=True)
class Finetune(TrainingOptions):
    """Train one fold of one strategy, resume it after an interruption, and test it."""

    strategy: str = "S5"
    """S1 to S5 of the paper."""
    fold: int = 1
    """From 1."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Run folder; by default runs/CORPUS-SCHEME-foldN-STRATEGY-PRESET-seedN."""

    def run(self) -> None:
        """Train and test."""
        corpus, scheme = open_folds(self)
        import_tensorflow()
        from ser_tf.training.finetune import FoldTask, finetune
        from ser_tf.training.run_folder import RunFolder

        name = f"{corpus.name}-{self.scheme}-fold{self.fold}-{self.strategy}-{Path(self.preset).stem}"
        folder = self.run_folder or Path("runs") / f"{name}-seed{self.config.training.seed}"
        start = self.weights or "random weights"
        print(f"{folder}: {corpus.name}, {self.scheme} fold {self.fold}, {self.strategy} from {start}", flush=True)
        task = FoldTask.make(corpus, scheme, self.fold, self.strategy, self.config, self.weights)
        name_left_out(reason for _, reason in task.prepared.failures)
        print(summary_of(finetune(task, RunFolder(folder), report=print)))


@dataclass(frozen=True)
class Evaluate(TrainingOptions):
    """Cross-validate: train and test every fold; finished folds are kept, an interrupted one is resumed."""

    strategies: tuple[str, ...] = ("S5",)
    """S1 to S5 of the paper."""
    only: tuple[int, ...] = ()
    """Just these folds."""
    seeds: tuple[int, ...] = ()
    """Every fold once with each of these seeds; by default with training.seed."""
    start_from: str | None = None
    """Start every run from this strategy's weights of the same fold and seed in the same folder."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Folder of the runs; by default runs/CORPUS-SCHEME-PRESET."""

    def run(self) -> None:
        """Train, test, and print what came out."""
        corpus, scheme = open_folds(self)
        import_tensorflow()
        from ser_tf.experiments.cross_validation import CrossValidation

        cross_validation = CrossValidation(
            corpus,
            scheme,
            self.config,
            self.strategies,
            folds=self.only or tuple(fold.number for fold in scheme.folds),
            seeds=self.seeds or (self.config.training.seed,),
            weights=self.weights,
            start_from=self.start_from,
            folder=self.run_folder or Path("runs") / f"{corpus.name}-{self.scheme}-{Path(self.preset).stem}",
        )
        tasks = cross_validation.tasks()
        name_left_out(reason for task in tasks[:1] for _, reason in task.prepared.failures)
        for result in cross_validation.run(tasks, report=partial(print, flush=True)):
            print(summary_of(result), flush=True)
        summary = cross_validation.summarise()
        print(_table_of_folds(summary))
        for strategy in summary.strategies.values():
            print(strategy.scores.sentence, strategy.groups.sentence)
        for comparison in summary.comparisons:
            print(comparison.sentence)


@dataclass(frozen=True)
class Pretrain:
    """Pre-train on speaker identity (not built yet)."""

    def run(self) -> None:
        """Say so."""
        raise UserError("pretrain: not built yet; finetune takes the embedding.weights.h5 of a run by --weights")


def summary_of(result: dict[str, Any]) -> str:
    """What a run's `metrics.json` holds, in two lines."""
    test = result["test"]
    lines = [
        f"{result['strategy']} from {result['start']}, {result['corpus']} {result['scheme']} fold {result['fold']}, "
        f"{test['utterances']} test utterances: WA {test['wa']:.1%}, UAR {test['uar']:.1%}, "
        f"macro-F1 {test['macro_f1']:.1%} (validation UAR {result['validation']['uar']:.1%}, "
        f"best epoch {result['best_epoch']} of {result['epochs']})",
        f"left out by default: {len(result['excluded'])}; unreadable: {len(result['unreadable'])}; "
        f"kept whole for lack of speech: {result['whole_waveform_kept']}",
    ]
    return "\n".join(lines)


def _table_of_folds(summary: "Summary") -> str:
    lines = ["strategy  folds  seeds     WA: mean    min    max    std   UAR: mean    min    max    std  started from"]
    for name, strategy in summary.strategies.items():
        cells = []
        for score in ("wa", "uar"):
            spread = strategy.scores.over_folds[score]
            deviation = math.nan if spread.standard_deviation is None else spread.standard_deviation
            shares = (100 * share for share in (spread.mean, spread.minimum, spread.maximum, deviation))
            cells.append("{:11.1f} {:6.1f} {:6.1f} {:6.1f}".format(*shares))
        counts = f"{len(strategy.scores.folds):5d} {len(strategy.scores.seeds):6d}"
        lines.append(f"{name:<9} {counts} {'  '.join(cells)}  {strategy.scores.start}")
    return "\n".join(lines)
