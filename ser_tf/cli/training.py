"""Commands that train: one fold, all folds, or pre-training."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ser_tf.cli.options import Engine, Method, TrainingOptions, import_tensorflow, open_folds, run_name
from ser_tf.config import Config, PretrainingConfig
from ser_tf.errors import UserError

if TYPE_CHECKING:
    from ser_tf.runs.folder import RunFolder
    from ser_tf.statistics.summary import Summary


@dataclass(frozen=True)
class Finetune(TrainingOptions):
    """Train and test one fold of one strategy; resume it after an interruption."""

    strategy: str = "S5"
    """S1 to S5 of the paper."""
    fold: int = 1
    """Number of the fold, from 1."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Run folder; by default runs/CORPUS-SCHEME-foldN-STRATEGY-PRESET-seedN."""

    def run(self) -> None:
        """Train and test."""
        corpus, scheme = open_folds(self)
        import_tensorflow()
        from ser_tf.runs.folder import RunFolder
        from ser_tf.training.finetune import finetune
        from ser_tf.training.fold_task import FoldTask

        name = f"{run_name(corpus)}-{self.scheme}-fold{self.fold}-{self.strategy}-{Path(self.preset).stem}"
        folder = self.run_folder or Path("runs") / f"{name}-seed{self.config.training.seed}"
        start = self.weights or "random weights"
        print(f"{folder}: {corpus.name}, {self.scheme} fold {self.fold}, {self.strategy} from {start}", flush=True)
        task = FoldTask.make(corpus, scheme, self.fold, self.strategy, self.config, self.weights)
        print(summary_of(finetune(task, RunFolder(folder), report=print)))


@dataclass(frozen=True)
class Evaluate(TrainingOptions):
    """Cross-validate: train and test every fold. Finished folds are kept; an interrupted one is resumed."""

    strategies: tuple[str, ...] = ("S5",)
    """S1 to S5 of the paper."""
    fold: tuple[int, ...] = ()
    """Numbers of the folds, from 1; by default all."""
    seeds: tuple[int, ...] = ()
    """Train each fold once per seed; by default with training.seed."""
    start_from: str | None = None
    """Start each run from the weights of this strategy's run of the same fold and seed, in the same folder."""
    engine: Engine = "local"
    """ray: every run is a task on a Ray cluster whose nodes share corpus and runs; needs the extra `[ray]`."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Folder of the runs; by default runs/CORPUS-SCHEME-PRESET."""

    def run(self) -> None:
        """Train, test, and print the scores."""
        corpus, scheme = open_folds(self)
        import_tensorflow()
        from ser_tf.experiments.cross_validation import CrossValidation

        cross_validation = CrossValidation(
            corpus,
            scheme,
            self.config,
            self.strategies,
            folds=self.fold or tuple(fold.number for fold in scheme.folds),
            seeds=self.seeds or (self.config.training.seed,),
            weights=self.weights,
            start_from=self.start_from,
            folder=self.run_folder or Path("runs") / f"{run_name(corpus)}-{self.scheme}-{Path(self.preset).stem}",
        )
        tasks = cross_validation.tasks()
        if self.engine == "ray":
            cross_validation.spread(tasks, report=partial(print, flush=True))
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
    """Pre-train on the speakers or emotions of other corpora; resume after an interruption."""

    corpus: tuple[Path, ...]
    """For speakers: folders of shards (ser-tf prepare), or corpora of speakers, which are first prepared in a folder
    beside the run. For emotions: corpora or tables, as for finetune."""
    task: Literal["speakers", "emotions"] = "speakers"
    """What the network learns to distinguish."""
    exclude_speakers: tuple[str, ...] = ()
    """Leave out the speakers that fine-tuning will be tested on, as ravdess:12, or ravdess:* for a whole corpus."""
    trial_list: Path | None = None
    """For speakers: test on these trials (VoxCeleb1's format: 1 PATH PATH); by default on drawn trials of held-out
    speakers."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Run folder; by default runs/pretrain-CORPORA-PRESET-seedN or runs/pretrain-emotions-CORPORA-PRESET-seedN."""
    preset: str = "compact"
    """paper, compact, tiny, vggvox, or a configuration in YAML; the options below change single parameters."""
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    """For speakers."""
    config: Method = field(default_factory=Config)

    def run(self) -> None:
        """Train, and print the scores on held-out speakers."""
        from ser_tf.runs.folder import RunFolder

        for root in self.corpus:
            if not root.exists():  # false also for a link to itself
                raise UserError(f"{root}: expected a directory of recordings or a CSV table. Received: nothing there")
        names = "+".join(root.resolve().stem.lower() for root in self.corpus)
        prefix = "pretrain" if self.task == "speakers" else "pretrain-emotions"
        default = f"{prefix}-{names}-{Path(self.preset).stem}-seed{self.config.training.seed}"
        run = RunFolder(self.run_folder or Path("runs") / default)
        learn = self._learn_speakers if self.task == "speakers" else self._learn_emotions
        learn(run, partial(print, flush=True))
        print(f"{run.weights}: for finetune and evaluate --weights")

    def _learn_emotions(self, run: "RunFolder", report: Callable[[str], None]) -> None:
        from ser_tf.corpora.opening import open_corpus

        if self.trial_list is not None:
            raise UserError("trial_list: expected --task speakers, which verifies speakers. Received: --task emotions")
        corpora = [open_corpus(root) for root in self.corpus]
        import_tensorflow()
        from ser_tf.pretraining.emotions import EmotionTask, pretrain_emotions

        task = EmotionTask.of(corpora, self.config, self.exclude_speakers)
        recordings = sum(content["recordings"] for content in task.corpora().values())
        report(
            f"{run.path}: trained on {recordings:,} recordings of {len(task.fold.train):,} speakers, "
            f"{len(task.corpus.emotions)} emotions; {len(task.fold.validation)} speakers held out"
        )
        for name, held_out in pretrain_emotions(task, run, report)["held_out"].items():
            report(f"{name}, held out: {held_out['utterances']} utterances, UAR {held_out['uar']:.1%}")

    def _learn_speakers(self, run: "RunFolder", report: Callable[[str], None]) -> None:
        from ser_tf.pretraining.cluster import Place
        from ser_tf.pretraining.manifest import Shards
        from ser_tf.pretraining.prepare import shards_of

        beside = run.path.parent / "shards"
        place = Place.from_environment()
        if place.hosts > 1:
            folders = list(self.corpus)  # shards only: the hosts must not prepare one corpus at once
        else:
            folders = [shards_of(root, beside, self.config, report, import_tensorflow) for root in self.corpus]
        shards = Shards.open(folders, self.config)
        import_tensorflow()  # after preparing: its workers would repeat the messages
        from ser_tf.pretraining.hosts import Hosts
        from ser_tf.pretraining.speakers import PretrainTask, pretrain

        hosts = Hosts.join(place, report)
        task = PretrainTask.make(shards, self.config, self.pretraining, self.exclude_speakers, self.trial_list)
        report(
            f"{run.path}: trained on {sum(task.trained.values()):,} recordings of {len(task.trained):,} speakers, "
            f"verified on {len(task.held_out)} others"
        )
        result = pretrain(task, run, report, hosts)
        test, untrained = result["test"], result["untrained"]["test"]
        costs = ", ".join(f"minDCF({prior}) {cost:.3f}" for prior, cost in test["min_dcf"].items())
        print(
            f"{len(result['test_speakers'])} speakers not trained on, {test['trials']:,} trials: equal error rate "
            f"{test['eer']:.1%} (untrained {untrained['eer']:.1%}, chance 50.0%), {costs}; epoch "
            f"{result['best_epoch']} of {result['epochs']}"
        )


def summary_of(result: dict[str, Any]) -> str:
    """The content of a run's `metrics.json` in two lines."""
    test = result["test"]
    untested = ", ".join(emotion for emotion, recall in test.get("recall", {}).items() if recall is None)
    untested = f" (none of {untested})" if untested else ""
    lines = [
        f"{result['strategy']} from {result['start']}, {result['corpus']} {result['scheme']} fold {result['fold']}, "
        f"{test['utterances']} test utterances{untested}: WA {test['wa']:.1%}, UAR {test['uar']:.1%}, "
        f"macro-F1 {test['macro_f1']:.1%} (validation UAR {result['validation']['uar']:.1%}, "
        f"epoch {result['best_epoch']} of {result['epochs']})",
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
