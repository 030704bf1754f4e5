"""Load whatever names emotions: a packaged model, a run, or an export. Only the latter two may need TensorFlow."""

from pathlib import Path

from ser_tf.errors import UserError, require_backend
from ser_tf.runs.folder import RunFolder
from ser_tf.serving.export_folder import ONNX, PREDICTIONS, exported_version, is_portable
from ser_tf.serving.hub import fetch, hub_name
from ser_tf.serving.onnx_recogniser import OnnxRecogniser
from ser_tf.serving.packaged import packaged_models, packed_model
from ser_tf.serving.recognition import AnyRecogniser


def load(model: str | Path | None = None) -> AnyRecogniser:
    """Load a model that names emotions.

    Args:
        model: name of a packaged model (`ser-tf models` lists them), by default crema_d; path of a packed one,
            NAME.onnx; folder of a finished run, of an export to SavedModel or ONNX, or of one version of a
            SavedModel; or a run on the hub, hf://OWNER/NAME. A packaged model's name comes before a folder of the same
            name; write that as ./NAME.

    Raises:
        UserError: it is none of these; no model is packaged; the run is not finished; the export is to LiteRT; or a
            file is damaged.
    """
    packed = packed_model(model)
    if packed is not None:
        return packed.load()
    path = _folder_of(model)
    if is_portable(path):
        if not (path / ONNX).is_file():
            raise UserError(
                f"{path}: expected a run, or an export to SavedModel or ONNX. Received: one to LiteRT, which runs in "
                "its own engine (docs/serving.md); give the run, or export it in another format"
            )
        return OnnxRecogniser.of_export(path)
    version = exported_version(path)
    if version is None and not path.exists():
        raise UserError(
            f"{path}: expected the folder of a run; there is none, nor a packaged model of this name: "
            f"{', '.join(packaged_models()) or 'none is packaged'}"
        )
    if version is None:
        RunFolder(path).require_finished()  # before the seconds that TensorFlow takes
    require_backend()
    from ser_tf.serving.predict import ExportedRecogniser, load_run

    return load_run(path) if version is None else ExportedRecogniser(version)


def needs_tensorflow(model: str | Path | None) -> bool:
    """Whether `load` will import TensorFlow, if it succeeds."""
    if model is None or packed_model(model) is not None:
        return False
    path = Path(model)
    return hub_name(model) is not None or (path.exists() and not is_portable(path))


def is_model_folder(path: Path) -> bool:
    """Whether a folder is a run or an export, finished or not, and so no folder of recordings."""
    folder = RunFolder(path)
    is_run = folder.identity.is_file() or folder.metrics.is_file()
    return is_run or is_portable(path) or (path.is_dir() and _is_export(path))


def predictions_of(model: str | Path | None) -> Path:
    """The predictions of a model for its validation and test recordings.

    Raises:
        UserError: it is no model, or an older export without them.
    """
    packed = packed_model(model)
    if packed is not None:
        return packed.predictions
    path = _folder_of(model)
    if is_portable(path):
        return path / PREDICTIONS
    version = exported_version(path)
    if version is None:
        folder = RunFolder(path)
        folder.require_finished()
        return folder.predictions
    predictions = version / "assets" / PREDICTIONS
    if not predictions.is_file():
        raise UserError(f"{predictions}: expected the run's predictions, which older exports lack; export it again")
    return predictions


def _folder_of(model: str | Path | None) -> Path:
    """The folder that was given, or that of the run fetched from the hub."""
    name = hub_name(str(model))
    return Path(str(model)) if name is None else fetch(name)


def _is_export(path: Path) -> bool:
    try:
        return exported_version(path) is not None
    except UserError:  # an interrupted one
        return True
