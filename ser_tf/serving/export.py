"""Export a finished run as a SavedModel, in numbered versions as TensorFlow Serving expects."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from ser_tf.errors import UserError, encodable, printable
from ser_tf.runs.files import disk_error, write_json
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.lock import LOCK, alone_in
from ser_tf.runs.provenance import environment
from ser_tf.serving.export_folder import CONFIG, LABELS, PREDICTIONS, UNFINISHED, export_versions
from ser_tf.serving.line_graph import LineGraph
from ser_tf.serving.predict import load_run

MODEL_CARD = "model_card.md"
PROVENANCE = "provenance.json"


def export(run: Path, folder: Path, card: str) -> Path:
    """Write the next version of a run's SavedModel.

    The version is written under a temporary name and then renamed, so that a server that watches the folder never sees
    part of it.

    Args:
        run: folder of a finished run.
        folder: folder of the versions; created if missing.
        card: the model card, in Markdown.

    Returns:
        The folder of the new version.

    Raises:
        UserError: Keras does not run on TensorFlow; the run cannot be loaded; `folder` holds something else; or a
            different export is writing to it.
    """
    require_tensorflow()
    recogniser = load_run(run)
    with _opened(folder):
        version = folder / str(max(export_versions(folder), default=0) + 1)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
        try:
            unfinished.chmod(0o755)  # mkdtemp permits only this user, and a server may run as a different one
            with full_disk_explained(folder):
                _write(LineGraph(recogniser), RunFolder(run), card, unfinished)
            unfinished.rename(version)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return version


def require_tensorflow() -> None:
    """Check that Keras runs on TensorFlow, whose graphs are exported.

    Raises:
        UserError: it does not.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"export: expected Keras on TensorFlow. Received: KERAS_BACKEND={keras.backend.backend()}; set "
            "KERAS_BACKEND=tensorflow, which exports any run"
        )


def write_assets(emotions: Sequence[str], run: RunFolder, card: str, folder: Path) -> list[Path]:
    """Write the assets of an export: labels, model card, provenance, configuration, predictions.

    Returns:
        The files.
    """
    names = LABELS, MODEL_CARD, PROVENANCE, CONFIG, PREDICTIONS
    labels, model_card, provenance, config, predictions = files = [folder / name for name in names]
    labels.write_text("".join(f"{emotion}\n" for emotion in emotions), encoding="utf-8")
    model_card.write_text(encodable(card), encoding="utf-8")
    write_json(provenance, {"run": run.read_identity(), "exported_with": environment()})
    shutil.copyfile(run.config, config)
    shutil.copyfile(run.predictions, predictions)
    return files


def _write(line: LineGraph, run: RunFolder, card: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as staging:
        saved = tf.Module()
        saved.line_variables = line.variables
        assets = write_assets(line.emotions, run, card, Path(staging))
        saved.line_assets = [tf.saved_model.Asset(str(path)) for path in assets]
        tf.saved_model.save(saved, str(folder), signatures=line.signatures())


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Name the folder that TensorFlow cannot write to.

    Raises:
        OSError: the disk is full, or writing failed for a different reason.
    """
    try:
        yield
    except tf.errors.OpError as error:
        cannot_write = disk_error(error, folder)
        if cannot_write is None:
            raise
        raise cannot_write from error


@contextmanager
def _opened(folder: Path) -> Iterator[None]:
    """Lock the folder for this export, and remove what killed exports left."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a new folder or that of an export. Received: a file")
    if printable(folder.absolute()) != str(folder.absolute()):
        raise UserError(f"{folder}: expected a folder whose path is UTF-8, which TensorFlow requires; choose another")
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        versions = {str(version) for version in export_versions(folder)}
        for path in sorted(folder.iterdir()):
            if path.name not in {*versions, LOCK} and not path.name.startswith(UNFINISHED):
                raise UserError(
                    f"{folder}: expected a new folder or that of an export. Received: one that holds {path.name}; "
                    "choose another"
                )
        for path in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(path)
        yield
