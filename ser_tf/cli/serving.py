"""Commands that hand a run on: export it as a SavedModel, or for other engines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ser_tf.cli.options import import_tensorflow
from ser_tf.errors import UserError

Format = Literal["saved-model", "onnx", "litert"]


@dataclass(frozen=True)
class Export:
    """Write a finished run as the next version of a SavedModel: recording in, emotion out, for TensorFlow Serving.

    Or for other engines, from speech on: as ONNX or for LiteRT.
    """

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run")]
    """Folder of a finished run."""
    out: tyro.conf.Positional[Path]
    """Folder of a SavedModel's versions, OUT/1 is the first; for the other formats a new folder."""
    format: Format = "saved-model"
    """onnx needs the extra onnx; litert writes the weights as float32 and as float16."""
    calibrate_on: Path | None = None
    """The run's corpus, for litert: write the network alone as int8, too, with its ranges from training recordings."""

    def run(self) -> None:
        """Write it, and say where it is and what it holds."""
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
        print(f"{written}: {sizes}; what it is and is not for: {card}")

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


def _megabytes(*paths: Path) -> float:
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
