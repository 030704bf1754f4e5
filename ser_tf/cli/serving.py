"""Commands that pass a run on: as an export, over HTTP, or on the hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ser_tf.cli.options import import_tensorflow
from ser_tf.errors import UserError, import_extra

if TYPE_CHECKING:
    from ser_tf.serving.abstention import Abstention

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
class Serve:
    """Answer over HTTP: a page with a microphone, and REST in the form of TensorFlow Serving."""

    model: tyro.conf.Positional[str | None] = None
    """As for predict --model; by default the packaged model."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every address of this machine."""
    port: int = 8501
    """0 takes a free one."""
    names: tuple[str, ...] = ()
    """Further names of the server, such as that of a proxy before it; requests to other names are refused."""
    risk: float | None = None
    """Abstain at low probability, as in predict."""

    def run(self) -> None:
        """Answer until SIGTERM or Ctrl-C."""
        for library in ("starlette", "uvicorn"):
            import_extra(library, f"ser-tf serve needs {library}", "serve")
        from ser_tf.server.app import application
        from ser_tf.server.hearing import Hearing
        from ser_tf.server.running import end_on_sigterm, model_name, reserve, serve

        end_on_sigterm()
        with reserve(self.host, self.port) as listening:
            hearing = Hearing(*self._loaded())
            app = application(hearing, name=model_name(self.model), host=self.host, names=self.names)
            address = f"[{self.host}]" if ":" in self.host else self.host
            url = f"http://{address}:{listening.getsockname()[1]}"
            serve(app, listening, f"{url} names {', '.join(hearing.emotions)}; Ctrl-C ends it")

    def _loaded(self) -> "tuple[Any, Abstention | None]":
        """The recogniser, and its threshold where a risk is stated."""
        from ser_tf.serving.abstention import Abstention
        from ser_tf.serving.loading import load, needs_tensorflow

        if needs_tensorflow(self.model):
            import_tensorflow()
        return load(self.model), None if self.risk is None else Abstention.for_risk(self.model, self.risk)


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
