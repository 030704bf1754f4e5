"""Commands that pass a run on: as an export, or on the hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ser_tf.cli.options import import_tensorflow
from ser_tf.errors import UserError

Format = Literal["saved-model", "onnx", "litert"]


@dataclass(frozen=True)
class Export:
    """Export a finished run.

    As the next version of a SavedModel for TensorFlow Serving (recording in, emotion out), or to ONNX or LiteRT
    (speech in, emotion out).
    """

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run")]
    """Folder of a finished run."""
    out: tyro.conf.Positional[Path]
    """Folder of the SavedModel's versions, of which OUT/1 is the first; for other formats, a new folder."""
    format: Format = "saved-model"
    """onnx needs the extra `[onnx]`; litert writes weights in float32 and in float16."""
    calibrate_on: Path | None = None
    """For litert, the run's corpus: also write the network in int8, with ranges from training recordings."""

    def run(self) -> None:
        """Write the export, and print its place and size."""
        if self.calibrate_on is not None and self.format != "litert":
            raise UserError(
                f"calibrate-on: expected --format litert, which has an int8 network. Received: --format {self.format}"
            )
        import_tensorflow()
        from ser_tf.runs.folder import RunFolder
        from ser_tf.serving.export import MODEL_CARD
        from ser_tf.serving.model_card import model_card

        written = self._write(model_card(RunFolder(self.run_folder)))
        (card,) = written.rglob(MODEL_CARD)
        if self.format == "saved-model":
            sizes = f"{_megabytes(*written.rglob('*')):.1f} MB"
        else:
            models = sorted(path for path in written.iterdir() if path.suffix in (".onnx", ".tflite"))
            sizes = ", ".join(f"{path.name} {_megabytes(path):.1f} MB" for path in models)
        print(f"{written}: {sizes}; intended use and limits: {card}")

    def _write(self, card: str) -> Path:
        from ser_tf.corpora.opening import open_corpus
        from ser_tf.serving.engines import export_litert, export_onnx
        from ser_tf.serving.export import export

        if self.format == "saved-model":
            return export(self.run_folder, self.out, card)
        if self.format == "onnx":
            return export_onnx(self.run_folder, self.out, card)
        corpus = None if self.calibrate_on is None else open_corpus(self.calibrate_on)
        return export_litert(self.run_folder, self.out, card, corpus)


@dataclass(frozen=True)
class Push:
    """Push a finished run with its model card to the Hugging Face Hub, for `ser_tf.load("hf://OWNER/NAME")`."""

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run")]
    """Folder of a finished run."""
    name: tyro.conf.Positional[str]
    """OWNER/NAME of the model; it is made if it does not exist. Needs the extra `[hub]`, and `hf auth login`."""

    def run(self) -> None:
        """Push, and print the commit's address."""
        import_tensorflow()
        from ser_tf.serving.hub import push

        print(push(self.run_folder, self.name))


def _megabytes(*paths: Path) -> float:
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
