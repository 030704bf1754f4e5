"""The door: arguments in, one room called, lines out. TensorFlow is imported only by the commands that need it."""

import csv
import io
import json
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import tyro

from ser_tf.config import Config, preset
from ser_tf.errors import UserError

if TYPE_CHECKING:
    from ser_tf.corpora import Corpus
    from ser_tf.corpora.folds import Scheme
    from ser_tf.experiments.summary import Summary
    from ser_tf.serving.predict import Prediction, Recogniser

Method = Annotated[Config, tyro.conf.arg(name="")]
DESCRIPTION = "Speech emotion recognition: SE-ResNet-34, GhostVLAD and emotion metric learning."
INTERRUPTED = 130
"""Exit status after Ctrl-C, by the shell's convention."""


@dataclass(frozen=True)
class Audit:
    """Read every file of a corpus, and report what is wrong with it."""

    directory: tyro.conf.Positional[Path]
    """Folder of RAVDESS, CREMA-D or the synthetic corpus, or a table (CSV: path, speaker, emotion)."""
    json: Path | None = None
    """Also write the report to this file."""

    def run(self) -> None:
        """Print the report."""
        from ser_tf.corpora.audit import audit

        report = audit(self.directory, progress=sys.stderr.isatty())
        print(report.to_text())
        if self.json is not None:
            self.json.write_text(report.to_json() + "\n")


@dataclass(frozen=True)
class Synthesise:
    """Write the synthetic corpus: speech-like utterances of several speakers and emotions."""

    directory: tyro.conf.Positional[Path]
    """Folder to write; one that is complete is left as it is."""
    speakers: int = 12
    takes: int = 4
    """Utterances per speaker and emotion."""
    seed: int = 0

    def run(self) -> None:
        """Write it."""
        from ser_tf.corpora.synthetic import synthesise

        synthesise(self.directory, speakers=self.speakers, takes=self.takes, seed=self.seed)
        print(f"{self.directory}: {self.speakers} speakers")


@dataclass(frozen=True)
class _Folds:
    """What every command that goes over folds shares."""

    corpus: Path
    """Folder of RAVDESS, CREMA-D or the synthetic corpus, or a table (CSV: path, speaker, emotion)."""
    scheme: str = "complete"
    """published, corrected, complete, emobox (RAVDESS), or one of your own file."""
    folds: Path | None = None
    """Your own file of folds, in the form of folds.yaml."""
    keep_excluded: bool = False
    """Use the silent and contradictory recordings that are left out by default."""


@dataclass(frozen=True)
class _Training(_Folds):
    """What finetune and evaluate share."""

    weights: Path | None = None
    """Start from these weights (embedding.weights.h5 of a run)."""
    preset: str = "compact"
    """paper, compact, tiny, or a configuration in YAML; the options below change single parameters."""
    config: Method = field(default_factory=Config)


@dataclass(frozen=True)
class Finetune(_Training):
    """Train one fold of one strategy, resume it after an interruption, and test it."""

    strategy: str = "S5"
    """S1 to S5 of the paper."""
    fold: int = 1
    """From 1."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Run folder; by default runs/CORPUS-SCHEME-foldN-STRATEGY-PRESET-seedN."""

    def run(self) -> None:
        """Train and test."""
        corpus, scheme = _open(self)
        _finetune_fold(self, corpus, scheme, self.strategy, self.fold, self.run_folder)


@dataclass(frozen=True)
class Evaluate(_Training):
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
        corpus, scheme = _open(self)
        _import_tensorflow()
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
        for result in cross_validation.run(report=partial(print, flush=True)):
            print(_summary(result), flush=True)
        summary = cross_validation.summarise()
        print(_table_of_folds(summary))
        for strategy in summary.strategies.values():
            print(strategy.scores.sentence, strategy.groups.sentence)
        for comparison in summary.comparisons:
            print(comparison.sentence)


@dataclass(frozen=True)
class Yardsticks(_Folds):
    """Judge simple methods on the same folds: majority class, SVMs on acoustic features, and CREMA-D's listeners."""

    methods: tuple[str, ...] = ()
    """majority, mfcc_svm, egemaps_svm, human; by default all that can be had here."""
    protocol: Literal["honest", "random"] = "honest"
    """random: a split that hears the test speakers in training, beside the honest one, to show what a leak is worth."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Folder of the runs; by default runs/CORPUS-SCHEME-yardsticks. What is finished is kept."""

    def run(self) -> None:
        """Judge them and print the table."""
        corpus, scheme = _open(self)
        _import_tensorflow()
        from ser_tf.experiments.yardsticks import choose, compare
        from ser_tf.pipeline import prepare_speech

        yardsticks, reasons = choose(self.methods, corpus)
        prepared = prepare_speech(corpus.utterances, Config())
        for reason in (*reasons, *(reason for _, reason in prepared.failures)):
            print(f"ser-tf: left out: {reason}", file=sys.stderr)
        folder = self.run_folder or Path("runs") / f"{corpus.name}-{scheme.name}-yardsticks"
        print(compare(yardsticks, corpus, scheme, prepared, protocol=self.protocol, folder=folder, report=print))


@dataclass(frozen=True)
class Predict:
    """Name the emotion of recordings with a finished run."""

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run")]
    """Folder of a finished run."""
    recordings: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders of them."""
    format: Literal["table", "csv", "json"] = "table"
    """json: one object per line."""

    def run(self) -> None:
        """Print one line per recording; a bad one is named and counted while the others go on."""
        if not self.recordings:
            raise UserError("recordings: expected at least one file or folder")
        files = list(_audio_files(self.recordings))
        _import_tensorflow()
        from ser_tf.serving.predict import load

        recogniser = load(self.run_folder)
        failed: list[Path] = []
        predictions = _predictions(recogniser, files, failed)
        lines = {"table": _table_lines, "csv": _csv_lines, "json": _json_lines}[self.format]
        for line in lines(recogniser.emotions, predictions):
            print(line, flush=True)
        if failed:
            raise UserError(f"{len(failed)} of {len(files)} recordings could not be read; they are named above")


@dataclass(frozen=True)
class Describe:
    """Print a network's size: parameters, multiply-adds, descriptors and embedding."""

    seconds: float = 2.0
    """Length of the speech that multiply-adds and descriptors are counted for."""
    preset: str = "compact"
    """paper, compact, tiny, or a configuration in YAML; the options below change single parameters."""
    config: Method = field(default_factory=Config)

    def run(self) -> None:
        """Print it."""
        _import_tensorflow()
        from ser_tf.network.se_resnet import describe

        summary = describe(self.config, self.seconds)
        print(f"{self.preset}, {summary.seconds:g} s of speech")
        print(f"  spectrogram   {summary.frames} frames x {self.config.spectrogram.bins} bins")
        print(f"  descriptors   {summary.descriptors} x {self.config.network.descriptor_size}")
        print(f"  embedding     {summary.embedding_size}")
        print(f"  parameters    {summary.parameters:,}")
        print(f"  multiply-adds {summary.multiply_adds:,}")


@dataclass(frozen=True)
class Pretrain:
    """Pre-train on speaker identity (not built yet)."""

    def run(self) -> None:
        """Say so."""
        raise UserError("pretrain: not built yet; finetune takes the embedding.weights.h5 of a run by --weights")


def main() -> None:
    """Run one command; whatever a user can cause ends in one line and status 1."""
    warnings.showwarning = _show_warning
    try:
        _parse(sys.argv[1:]).run()
    except UserError as error:
        sys.exit(f"ser-tf: {error}")
    except KeyboardInterrupt:
        print(
            "ser-tf: interrupted; a training goes on from its last finished epoch when it is started again",
            file=sys.stderr,
        )
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno is None:  # a library's own, not the operating system's
            raise
        reason = os.strerror(error.errno)
        sys.exit(f"ser-tf: {error.filename or 'writing'}: {reason}; make room or choose another place")


def _parse(arguments: list[str]) -> Any:
    config = _preset(arguments)
    corpus: Any = tyro.MISSING
    command = (
        Annotated[Audit, tyro.conf.subcommand("audit")]
        | Annotated[Synthesise, tyro.conf.subcommand("synthesise")]
        | Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
        | Annotated[Finetune, tyro.conf.subcommand("finetune", default=Finetune(corpus, config=config))]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate", default=Evaluate(corpus, config=config))]
        | Annotated[Yardsticks, tyro.conf.subcommand("yardsticks")]
        | Annotated[Predict, tyro.conf.subcommand("predict")]
        | Annotated[Describe, tyro.conf.subcommand("describe", default=Describe(config=config))]
    )
    return tyro.cli(command, args=arguments, prog="ser-tf", description=DESCRIPTION)


def _preset(arguments: list[str]) -> Config:
    """The configuration that the command's options start from."""
    value = _Training.preset
    for argument, following in pairwise([*arguments, ""]):
        name, equals, joined = argument.partition("=")
        if name == "--preset":
            value = joined if equals else following
    return Config.load(Path(value)) if Path(value).suffix else preset(value)


def _import_tensorflow() -> None:
    """Import TensorFlow without its remarks on CPU and GPU, unless TF_CPP_MIN_LOG_LEVEL says what is to be shown."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # its first remarks heed no level, and go past sys.stderr
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _open(options: _Folds) -> tuple["Corpus", "Scheme"]:
    from ser_tf.corpora import open_corpus
    from ser_tf.corpora.folds import load_scheme

    corpus = open_corpus(options.corpus, keep_excluded=options.keep_excluded)
    return corpus, load_scheme(options.scheme, corpus, options.folds)


def _finetune_fold(
    options: _Training, corpus: "Corpus", scheme: "Scheme", strategy: str, fold: int, run_folder: Path | None
) -> None:
    _import_tensorflow()
    from ser_tf.training.finetune import FoldTask, finetune
    from ser_tf.training.run_folder import RunFolder

    if run_folder is None:
        seed = options.config.training.seed
        name = Path(options.preset).stem
        run_folder = Path("runs") / f"{corpus.name}-{options.scheme}-fold{fold}-{strategy}-{name}-seed{seed}"
    print(f"{run_folder}: {corpus.name}, {options.scheme} fold {fold}, {strategy}", flush=True)
    task = FoldTask.make(corpus, scheme, fold, strategy, options.config, options.weights)
    for _, reason in task.prepared.failures:
        print(f"ser-tf: left out: {reason}", file=sys.stderr)
    print(_summary(finetune(task, RunFolder(run_folder), report=print)))


def _summary(result: dict[str, Any]) -> str:
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
    lines = ["strategy  folds  seeds     WA: mean    min    max    std   UAR: mean    min    max    std"]
    for name, strategy in summary.strategies.items():
        cells = []
        for score in ("wa", "uar"):
            spread = strategy.scores.over_folds[score]
            deviation = math.nan if spread.standard_deviation is None else spread.standard_deviation
            shares = (100 * share for share in (spread.mean, spread.minimum, spread.maximum, deviation))
            cells.append("{:11.1f} {:6.1f} {:6.1f} {:6.1f}".format(*shares))
        counts = f"{len(strategy.scores.folds):5d} {len(strategy.scores.seeds):6d}"
        lines.append(f"{name:<9} {counts} {'  '.join(cells)}")
    return "\n".join(lines)


def _audio_files(given: Sequence[Path]) -> Iterator[Path]:
    from ser_tf.corpora import AUDIO_SUFFIXES

    for path in given:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
        if not inside:
            raise UserError(f"{path}: expected recordings ({', '.join(AUDIO_SUFFIXES)}); there are none")
        yield from inside


def _predictions(
    recogniser: "Recogniser", files: Sequence[Path], failed: list[Path]
) -> Iterator[tuple[Path, "Prediction"]]:
    """The prediction of every recording that can be read; the others are named on stderr and added to `failed`."""
    for file in files:
        try:
            prediction = recogniser(file)
        except UserError as error:
            failed.append(file)
            print(f"ser-tf: {error}", file=sys.stderr)
        else:
            yield file, prediction


def _table_lines(emotions: Sequence[str], predictions: Iterable[tuple[Path, "Prediction"]]) -> Iterator[str]:
    columns = " ".join(f"{emotion[:9]:>9}" for emotion in emotions)
    yield f"{'emotion':<10} {'prob':>6}  {'speech':>6}  {columns}  file"
    for file, prediction in predictions:
        shares = " ".join(f"{share:9.1%}" for share in prediction.probabilities.values())
        winner = f"{prediction.emotion:<10} {prediction.probability:6.1%}"
        yield f"{winner}  {prediction.speech_seconds:5.2f}s  {shares}  {file}"


def _csv_lines(emotions: Sequence[str], predictions: Iterable[tuple[Path, "Prediction"]]) -> Iterator[str]:
    yield _csv_line("file", "emotion", "probability", "speech_seconds", *emotions)
    for file, prediction in predictions:
        shares = (f"{share:.6f}" for share in prediction.probabilities.values())
        yield _csv_line(file, prediction.emotion, f"{prediction.probability:.6f}", prediction.speech_seconds, *shares)


def _csv_line(*values: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _json_lines(emotions: Sequence[str], predictions: Iterable[tuple[Path, "Prediction"]]) -> Iterator[str]:
    for file, prediction in predictions:
        told = ("emotion", "probability", "probabilities", "speech_seconds")
        yield json.dumps({"file": str(file)} | {name: getattr(prediction, name) for name in told})


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Warnings of this project as one line; those of libraries are for developers, not for users."""
    if Path(filename).is_relative_to(Path(__file__).parent):
        print(f"ser-tf: {message}", file=sys.stderr)
