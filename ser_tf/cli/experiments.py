"""Commands for experiments and their report: yardsticks, sweeps, cross-corpus tests, noise."""

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ser_tf.cli.options import Engine, FoldOptions, Method, TrainingOptions, import_tensorflow, open_folds, run_name
from ser_tf.cli.training import summary_of
from ser_tf.config import Config


@dataclass(frozen=True)
class Yardsticks(FoldOptions):
    """Test simple methods on the same folds: majority class, SVMs on acoustic features, and CREMA-D's listeners."""

    methods: tuple[str, ...] = ()
    """majority, mfcc_svm, egemaps_svm, human; by default all that are possible here."""
    protocol: Literal["honest", "random"] = "honest"
    """random: also a random split, which trains on test speakers, to show the effect of this leak."""
    engine: Engine = "local"
    """ray: every method and fold is a task on a Ray cluster whose nodes share corpus and runs; needs the extra
    `[ray]`."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Folder of the runs; by default runs/CORPUS-SCHEME-yardsticks. Finished runs are kept."""

    def run(self) -> None:
        """Test them and print the table."""
        corpus, scheme = open_folds(self)
        import_tensorflow()
        from ser_tf.experiments.yardsticks import choose, compare, spread
        from ser_tf.pipeline import prepare_speech

        yardsticks = choose(self.methods, corpus)
        prepared = prepare_speech(corpus.utterances, Config())
        folder = self.run_folder or Path("runs") / f"{run_name(corpus)}-{scheme.name}-yardsticks"
        for step in (spread, compare) if self.engine == "ray" else (compare,):
            table = step(yardsticks, corpus, scheme, prepared, protocol=self.protocol, folder=folder, report=print)
        print(table)


@dataclass(frozen=True)
class Noise:
    """Test finished runs on their test speakers in white noise, pink noise and babble, added before silence removal."""

    corpus: Path
    """Corpus of the runs."""
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders with weights, of any strategies, folds and seeds; S1 and S3 show the effect of ghost clusters."""
    keep_excluded: bool = False
    """The runs were made with --keep-excluded."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Folder of the results; by default runs/CORPUS-noise. Finished results are kept."""

    def run(self) -> None:
        """Measure, and print the table and the conclusion about ghost clusters."""
        from ser_tf.corpora.opening import open_corpus

        corpus = open_corpus(self.corpus, keep_excluded=self.keep_excluded)
        import_tensorflow()
        from ser_tf.experiments.noise import measure
        from ser_tf.statistics.noise import noise_text, summarise_noise

        out = self.run_folder or Path("runs") / f"{corpus.name}-noise"
        folder = measure(corpus, self.runs, out, report=partial(print, flush=True))
        summary = summarise_noise(folder)
        folder.write_summary(dataclasses.asdict(summary))
        print(noise_text(summary))


@dataclass(frozen=True)
class Sweep(TrainingOptions):
    """Train every point of a parameter grid on some folds, and score it on their validation speakers."""

    over: tuple[str, ...] = ()
    """Parameters and their values, such as `loss.alpha=0.05,0.1 loss.beta=0.1,0.15`; the grid is their product."""
    one_at_a_time: bool = False
    """An ablation: take the first value of every parameter, and change one of them at a time, not their product."""
    strategy: str = "S5"
    """S1 to S5 of the paper."""
    fold: tuple[int, ...] = ()
    """Numbers of the folds, from 1; by default all."""
    seeds: tuple[int, ...] = ()
    """Train each fold once per seed; by default with training.seed."""
    start_from: Path | None = None
    """FOLDER/STRATEGY of an evaluate command: each training starts from its run of the same fold and seed."""
    engine: Engine = "local"
    """ray: every training is a task on a Ray cluster whose nodes share corpus and sweep; needs the extra `[ray]`."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Folder of the sweep; by default runs/CORPUS-SCHEME-PRESET-sweep-STRATEGY-PARAMETERS."""

    def run(self) -> None:
        """Train, and print the table."""
        corpus, scheme = open_folds(self)
        import_tensorflow()
        from ser_tf.experiments import sweep

        grid = sweep.parse_grid(self.over, self.config)
        name = f"{run_name(corpus)}-{self.scheme}-{Path(self.preset).stem}-sweep-{self.strategy}-{'-'.join(grid)}"
        trainings = sweep.Sweep(
            corpus,
            scheme,
            self.config,
            self.strategy,
            grid,
            folds=self.fold or tuple(fold.number for fold in scheme.folds),
            seeds=self.seeds or (self.config.training.seed,),
            weights=self.weights,
            start_from=self.start_from,
            folder=self.run_folder or Path("runs") / name,
            one_at_a_time=self.one_at_a_time,
        )
        report = partial(print, flush=True)
        if self.engine == "ray":
            trainings.spread(report)
        trainings.run(report)
        print(trainings.table())


@dataclass(frozen=True)
class CrossCorpus:
    """Train on one corpus and test on every recording of a different one, over their common emotions."""

    train_on: Path
    """Corpus for training and validation: a folder or a table, as for finetune."""
    test_on: Path
    """Corpus for the test."""
    strategy: str = "S3"
    """S1 to S5 of the paper."""
    scheme: str = "complete"
    """Scheme of folds of the training corpus."""
    fold: int = 1
    """Its validation speakers are for validation; the network trains on all others."""
    weights: Path | None = None
    """Start from these weights (embedding.weights.h5 of a run)."""
    preset: str = "compact"
    """paper, compact, tiny, vggvox, or a configuration in YAML; the options below change single parameters."""
    config: Method = field(default_factory=Config)
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Run folder; by default runs/CORPUS-to-CORPUS-foldN-STRATEGY-PRESET-seedN."""

    def run(self) -> None:
        """Train and test."""
        from ser_tf.corpora.folds import load_scheme
        from ser_tf.corpora.opening import open_corpus

        trained_on, tested_on = open_corpus(self.train_on), open_corpus(self.test_on)
        scheme = load_scheme(self.scheme, trained_on)
        import_tensorflow()
        from ser_tf.experiments.cross_corpus import cross_corpus_task
        from ser_tf.runs.folder import RunFolder
        from ser_tf.training.finetune import finetune

        task = cross_corpus_task(trained_on, tested_on, scheme, self.fold, self.strategy, self.config, self.weights)
        name = f"{task.corpus.name}-fold{self.fold}-{self.strategy}-{Path(self.preset).stem}"
        folder = self.run_folder or Path("runs") / f"{name}-seed{self.config.training.seed}"
        print(f"{folder}: {task.corpus.name}, {task.scheme.name} fold {self.fold}, {self.strategy}", flush=True)
        for corpus, side in ((trained_on, "trained_on"), (tested_on, "tested_on")):
            left_out = ", ".join(f"{count} {emotion}" for emotion, count in task.protocol["left_out"][side].items())
            print(f"{corpus.name}: left out for lack of the emotion in the other corpus: {left_out or 'nothing'}")
        print(summary_of(finetune(task, RunFolder(folder), report=print)))


@dataclass(frozen=True)
class Report:
    """Write one page about runs: our tables and figures beside the paper's, with intervals and comparisons."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, sweeps and noise tests, or folders of them at any depth."""
    out: Path
    """Folder for report.html, report.md and figures/."""
    corpus: tuple[Path, ...] = ()
    """Corpora of the runs, for figures of embeddings and ghost shares; these also need the runs' weights."""

    def run(self) -> None:
        """Write the page."""
        if self.corpus:
            import_tensorflow()
        from ser_tf.report.writing import write_report

        write_report(self.runs, self.out, self.corpus, report=partial(print, flush=True))
