"""Commands that use a network: name the emotion of recordings, print its size."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ser_tf import interruption
from ser_tf.cli.options import Method, import_tensorflow
from ser_tf.config import SHORTEST_CROP_SECONDS, Config
from ser_tf.errors import UserError, printable

if TYPE_CHECKING:
    from ser_tf.serving.abstention import Abstention
    from ser_tf.serving.recognition import AnyRecogniser, Prediction


MOST_SECONDS = 600
"""Maximum length for `describe`."""


@dataclass(frozen=True)
class Predict:
    """Name the emotion of recordings with the packaged model, or with another one."""

    recordings: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders of them. A run or an export in the first place is taken as --model."""
    model: Path | None = None
    """A packaged model (see `ser-tf models`), a packed one (NAME.onnx), or the folder of a run or its export."""
    format: Literal["table", "csv", "json"] = "table"
    """json: one object per line."""
    risk: float | None = None
    """Largest accepted share of wrong answers, such as 0.3. Answers below a threshold of probability are marked as
    abstained; the model's validation speakers choose the threshold."""
    timeline: Path | None = None
    """Cut one recording of up to 6 hours into utterances at its pauses; write timeline.csv, timeline.json and the page
    timeline.html to this folder."""

    def run(self) -> None:
        """Print one line per recording or utterance; report unreadable recordings and continue."""
        from ser_tf.serving.loading import load, needs_tensorflow

        model, recordings = self._model_and_recordings()
        if not recordings:
            raise UserError("recordings: expected at least one file or folder")
        files = list(_audio_files(recordings))
        if self.timeline is not None and len(files) != 1:
            raise UserError(f"timeline: expected one recording. Received: {len(files)}")
        if self.timeline is not None and self.format != "table":
            raise UserError(
                f"timeline: expected no --format, since the folder gets CSV and JSON. Received: {self.format}"
            )
        if needs_tensorflow(model):
            import_tensorflow()
        recogniser = load(model)
        abstention = None if self.risk is None else self._abstention(model)
        if self.timeline is not None:
            _write_timeline(recogniser, files[0], abstention, self.timeline)
            return
        failed: list[Path] = []
        predictions = _predictions(recogniser, files, failed)
        lines = {"table": _table_lines, "csv": _csv_lines, "json": _json_lines}[self.format]
        for line in lines(recogniser.emotions, predictions, abstention):
            print(line, flush=True)
        if failed:
            raise UserError(f"{len(failed)} of {len(files)} recordings could not be read; see above")

    def _model_and_recordings(self) -> tuple[Path | None, tuple[Path, ...]]:
        from ser_tf.serving.loading import is_model_folder

        first, *others = self.recordings or (None,)
        if self.model is None and first is not None and is_model_folder(first):
            return first, tuple(others)
        return self.model, self.recordings

    def _abstention(self, model: Path | None) -> "Abstention":
        from ser_tf.serving.abstention import Abstention

        assert self.risk is not None
        abstention = Abstention.for_risk(model, self.risk)
        print(f"ser-tf: {abstention}", file=sys.stderr)
        return abstention


@dataclass(frozen=True)
class Describe:
    """Print a network's size: parameters, multiply-adds, descriptors and embedding."""

    seconds: float = 2.0
    """Length of speech for counting multiply-adds and descriptors."""
    preset: str = "compact"
    """paper, compact, tiny, vggvox, or a configuration in YAML; the options below change single parameters."""
    config: Method = field(default_factory=Config)

    def run(self) -> None:
        """Print the size."""
        if not SHORTEST_CROP_SECONDS <= self.seconds <= MOST_SECONDS:
            raise UserError(
                f"seconds: expected {SHORTEST_CROP_SECONDS:g} to {MOST_SECONDS} s of speech. Received: {self.seconds:g}"
            )
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
    from ser_tf.corpora.corpus import AUDIO_SUFFIXES, UNREAD_SUFFIXES

    for path in given:
        if not path.is_dir():
            yield path
            continue
        # Formats that cannot be read are included, so that each such file is reported.
        suffixes = (*AUDIO_SUFFIXES, *UNREAD_SUFFIXES)
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and not file.is_dir())
        if not inside:
            raise UserError(f"{path}: expected recordings ({', '.join(AUDIO_SUFFIXES)}); there are none")
        yield from inside


def _predictions(
    recogniser: "AnyRecogniser", files: Sequence[Path], failed: list[Path]
) -> Iterator[tuple[Path, "Prediction"]]:
    """Predict every readable recording; report the others on stderr and add them to `failed`."""
    for file in files:
        if interruption.heard():  # raised in a callback of a library, which swallowed it
            raise KeyboardInterrupt
        try:
            prediction = recogniser(file)
        except UserError as error:
            failed.append(file)
            print(f"ser-tf: {error}", file=sys.stderr)
        else:
            yield file, prediction


def _write_timeline(
    recogniser: "AnyRecogniser",
    file: Path,
    abstention: "Abstention | None",
    folder: Path,
) -> None:
    """Print each utterance as soon as it is named, and write all of them to the folder."""
    from ser_tf.audio.long_recording import read_long_recording
    from ser_tf.report.timeline import clock, timeline_page
    from ser_tf.runs.files import write_text
    from ser_tf.runs.lock import alone_in
    from ser_tf.serving.segmentation import Timeline, cut, name_segments, write_timeline

    samples = read_long_recording(file)
    cuts = cut(samples, recogniser.config.vad)
    folder.mkdir(parents=True, exist_ok=True)  # first: if this fails, no work is lost
    print(f"{'from':>10} {'to':>10}  {'emotion':<10} {'prob':>6}", flush=True)
    segments = []
    for segment in name_segments(recogniser, samples, cuts, abstention):
        segments.append(segment)
        times = f"{clock(segment.start_seconds):>10} {clock(segment.end_seconds):>10}"
        print(f"{times}  {_winner(segment.prediction)}{_abstains(segment.abstained)}".rstrip(), flush=True)
    timeline = Timeline.of(file.name, recogniser.emotions, samples, cuts, segments, abstention)
    with alone_in(folder):
        write_timeline(timeline, folder)
        write_text(folder / "timeline.html", timeline_page(timeline, samples, recogniser.name))
    print(f"{len(segments)} utterances; too short to name: {len(cuts.too_short)}")
    print(f"written to {folder / 'timeline.html'}, {folder / 'timeline.csv'} and {folder / 'timeline.json'}")


def _winner(prediction: "Prediction") -> str:
    return f"{prediction.emotion:<10} {prediction.probability:6.1%}"


def _abstains(abstained: bool | None) -> str:
    return "  abstains" if abstained else " " * 10


def _table_lines(
    emotions: Sequence[str], predictions: Iterable[tuple[Path, "Prediction"]], abstention: "Abstention | None"
) -> Iterator[str]:
    columns = " ".join(f"{emotion[:9]:>9}" for emotion in emotions)
    mark = "" if abstention is None else " " * 10
    yield f"{'emotion':<10} {'prob':>6}{mark}  {'speech':>6}  {columns}  file"
    for file, prediction in predictions:
        shares = " ".join(f"{share:9.1%}" for share in prediction.probabilities.values())
        mark = "" if abstention is None else _abstains(abstention.abstains(prediction.probability))
        yield f"{_winner(prediction)}{mark}  {prediction.speech_seconds:5.2f}s  {shares}  {printable(file)}"


def _csv_lines(
    emotions: Sequence[str], predictions: Iterable[tuple[Path, "Prediction"]], abstention: "Abstention | None"
) -> Iterator[str]:
    mark = [] if abstention is None else ["abstained"]
    yield _csv_line("file", "emotion", "probability", *mark, "speech_seconds", *emotions)
    for file, prediction in predictions:
        shares = (f"{share:.6f}" for share in prediction.probabilities.values())
        winner = (prediction.emotion, f"{prediction.probability:.6f}")
        if abstention is not None:
            mark = [str(abstention.abstains(prediction.probability)).lower()]
        yield _csv_line(printable(file), *winner, *mark, prediction.speech_seconds, *shares)


def _csv_line(*values: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _json_lines(
    emotions: Sequence[str], predictions: Iterable[tuple[Path, "Prediction"]], abstention: "Abstention | None"
) -> Iterator[str]:
    for file, prediction in predictions:
        names = ("emotion", "probability", "probabilities", "speech_seconds")
        row = {"file": printable(file)} | {name: getattr(prediction, name) for name in names}
        if abstention is not None:
            row["abstained"] = abstention.abstains(prediction.probability)
        yield json.dumps(row)
