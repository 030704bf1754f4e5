"""Commands about a network: name the emotion of recordings, print the size."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ser_tf.cli.options import Method, import_tensorflow
from ser_tf.config import Config
from ser_tf.errors import UserError

if TYPE_CHECKING:
    from ser_tf.serving.predict import ExportedRecogniser, Prediction, Recogniser


@dataclass(frozen=True)
class Predict:
    """Name the emotion of recordings with a finished run or its export."""

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run")]
    """Folder of a finished run, or of what ser-tf export made of it."""
    recordings: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders of them."""
    format: Literal["table", "csv", "json"] = "table"
    """json: one object per line."""

    def run(self) -> None:
        """Print one line per recording; a bad one is named and counted while the others go on."""
        if not self.recordings:
            raise UserError("recordings: expected at least one file or folder")
        files = list(_audio_files(self.recordings))
        import_tensorflow()
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
    """paper, compact, tiny, vggvox, or a configuration in YAML; the options below change single parameters."""
    config: Method = field(default_factory=Config)

    def run(self) -> None:
        """Print it."""
        import_tensorflow()
        from ser_tf.network.se_resnet import describe

        summary = describe(self.config, self.seconds)
        print(f"{self.preset}, {summary.seconds:g} s of speech")
        print(f"  spectrogram   {summary.frames} frames x {self.config.spectrogram.bins} bins")
        print(f"  descriptors   {summary.descriptors} x {self.config.network.descriptor_size}")
        print(f"  embedding     {summary.embedding_size}")
        print(f"  parameters    {summary.parameters:,}")
        print(f"  multiply-adds {summary.multiply_adds:,}")


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
    recogniser: "Recogniser | ExportedRecogniser", files: Sequence[Path], failed: list[Path]
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
