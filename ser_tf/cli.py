"""The door: arguments in, one room called, lines out. TensorFlow is imported only by the commands that need it."""

import csv
import dataclasses
import errno
import json
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import tyro

from ser_tf.config import PRESETS, Config, preset
from ser_tf.errors import UserError

if TYPE_CHECKING:
    from ser_tf.serving.predict import Prediction

Method = Annotated[Config, tyro.conf.arg(name="")]
DESCRIPTION = "Speech emotion recognition: SE-ResNet-34, GhostVLAD and emotion metric learning."
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


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

        report = audit(self.directory, progress=True)
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
class _Training:
    """What finetune and evaluate share."""

    corpus: Path
    """Folder of RAVDESS, CREMA-D or the synthetic corpus, or a table (CSV: path, speaker, emotion)."""
    scheme: str = "complete"
    """published, corrected, complete, emobox (RAVDESS), or one of your own file."""
    folds: Path | None = None
    """Your own file of folds, in the form of folds.yaml."""
    weights: Path | None = None
    """Start from these weights (embedding.weights.h5 of a run)."""
    keep_excluded: bool = False
    """Use the silent and contradictory recordings that are left out by default."""
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
        _finetune_fold(self, self.strategy, self.fold, self.run_folder)


@dataclass(frozen=True)
class Evaluate(_Training):
    """Cross-validate: train and test every fold; finished folds are kept, an interrupted one is resumed."""

    strategies: tuple[str, ...] = ("S5",)
    """S1 to S5 of the paper."""
    only: tuple[int, ...] = ()
    """Just these folds."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Folder of the runs; by default runs."""

    def run(self) -> None:
        """Train, test and print the table."""
        from ser_tf.corpora import open_corpus
        from ser_tf.corpora.folds import load_scheme

        corpus = open_corpus(self.corpus, keep_excluded=self.keep_excluded)
        scheme = load_scheme(self.scheme, corpus, self.folds)
        numbers = self.only or tuple(fold.number for fold in scheme.folds)
        results: dict[str, list[dict[str, Any]]] = {strategy: [] for strategy in self.strategies}
        for number in numbers:
            for strategy in self.strategies:
                name = None if self.run_folder is None else self.run_folder / f"{strategy}-fold{number}"
                results[strategy].append(_finetune_fold(self, strategy, number, name))
        print(_table_of_folds(results))


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
        from ser_tf.serving.predict import load

        recogniser = load(self.run_folder)
        write = {"table": _TableLines, "csv": _CsvLines, "json": _JsonLines}[self.format](recogniser.emotions)
        failed = 0
        for file in files:
            try:
                write(file, recogniser(file))
            except UserError as error:
                failed += 1
                print(f"ser-tf: {error}", file=sys.stderr)
        if failed:
            raise UserError(f"{failed} of {len(files)} recordings could not be read; they are named above")


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
        sys.exit("ser-tf: interrupted; the same command goes on from the last finished epoch")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        sys.exit(f"ser-tf: {error.filename or 'writing'}: {error.strerror}; make room or choose another folder")


def _parse(arguments: list[str]) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    config = _preset(arguments)
    corpus: Any = tyro.MISSING
    command = (
        Annotated[Audit, tyro.conf.subcommand("audit")]
        | Annotated[Synthesise, tyro.conf.subcommand("synthesise")]
        | Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
        | Annotated[Finetune, tyro.conf.subcommand("finetune", default=Finetune(corpus, config=config))]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate", default=Evaluate(corpus, config=config))]
        | Annotated[Predict, tyro.conf.subcommand("predict")]
        | Annotated[Describe, tyro.conf.subcommand("describe", default=Describe(config=config))]
    )
    return tyro.cli(command, args=arguments, prog="ser-tf", description=DESCRIPTION)


def _preset(arguments: list[str]) -> Config:
    """The configuration that the command's options start from."""
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--preset":
            value = value or "".join(arguments[index + 1 : index + 2])
            return preset(value) if value in PRESETS or not Path(value).is_file() else Config.load(Path(value))
    return preset("compact")


def _finetune_fold(options: _Training, strategy: str, fold: int, run_folder: Path | None) -> dict[str, Any]:
    from ser_tf.corpora import open_corpus
    from ser_tf.corpora.folds import load_scheme
    from ser_tf.training.finetune import FoldTask, finetune
    from ser_tf.training.run_folder import RunFolder

    corpus = open_corpus(options.corpus, keep_excluded=options.keep_excluded)
    scheme = load_scheme(options.scheme, corpus, options.folds)
    if run_folder is None:
        seed = options.config.training.seed
        name = Path(options.preset).stem
        run_folder = Path("runs") / f"{corpus.name}-{options.scheme}-fold{fold}-{strategy}-{name}-seed{seed}"
    print(f"{run_folder}: {corpus.name}, {options.scheme} fold {fold}, {strategy}", flush=True)
    task = FoldTask.make(corpus, scheme, fold, strategy, options.config, options.weights)
    for _, reason in task.prepared.failures:
        print(f"ser-tf: left out: {reason}", file=sys.stderr)
    result = finetune(task, RunFolder(run_folder), report=print)
    print(_summary(result))
    return result


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


def _table_of_folds(results: dict[str, list[dict[str, Any]]]) -> str:
    from statistics import mean, stdev

    lines = ["strategy  folds     WA: mean    min    max    std   UAR: mean    min    max    std"]
    for strategy, folds in results.items():
        cells = []
        for name in ("wa", "uar"):
            shares = [100 * fold["test"][name] for fold in folds]
            spread = stdev(shares) if len(shares) > 1 else float("nan")
            cells.append(f"{mean(shares):11.1f} {min(shares):6.1f} {max(shares):6.1f} {spread:6.1f}")
        lines.append(f"{strategy:<9} {len(folds):5d} {'  '.join(cells)}")
    return "\n".join(lines)


def _audio_files(given: tuple[Path, ...]) -> Iterator[Path]:
    for path in given:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
        if not inside:
            raise UserError(f"{path}: expected recordings ({', '.join(AUDIO_SUFFIXES)}); there are none")
        yield from inside


class _TableLines:
    def __init__(self, emotions: tuple[str, ...]) -> None:
        print(
            f"{'emotion':<10} {'prob':>5}  {'speech':>6}  " + " ".join(f"{name[:9]:>9}" for name in emotions) + "  file"
        )

    def __call__(self, file: Path, prediction: "Prediction") -> None:
        shares = " ".join(f"{share:9.1%}" for share in prediction.probabilities.values())
        winner = f"{prediction.emotion:<10} {prediction.probability:5.1%}"
        print(f"{winner}  {prediction.speech_seconds:5.2f}s  {shares}  {file}", flush=True)


class _CsvLines:
    def __init__(self, emotions: tuple[str, ...]) -> None:
        self.rows = csv.writer(sys.stdout, lineterminator="\n")
        self.rows.writerow(["file", "emotion", "probability", "speech_seconds", *emotions])

    def __call__(self, file: Path, prediction: "Prediction") -> None:
        shares = (f"{share:.6f}" for share in prediction.probabilities.values())
        self.rows.writerow(
            [file, prediction.emotion, f"{prediction.probability:.6f}", prediction.speech_seconds, *shares]
        )


class _JsonLines:
    def __init__(self, emotions: tuple[str, ...]) -> None:
        pass

    def __call__(self, file: Path, prediction: "Prediction") -> None:
        print(json.dumps({"file": str(file), **dataclasses.asdict(prediction)}), flush=True)


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
