"""A finished run as a SavedModel, in folders of versions as TensorFlow Serving watches them."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from ser_tf.errors import UserError, encodable, printable
from ser_tf.folder_lock import alone_in
from ser_tf.serving.line_graph import LineGraph
from ser_tf.serving.predict import CONFIG, LABELS, PREDICTIONS, UNFINISHED, export_versions, load_run
from ser_tf.training.fitting import disk_error
from ser_tf.training.run_folder import RunFolder, environment, write_json

MODEL_CARD = "model_card.md"
PROVENANCE = "provenance.json"


def export(run: Path, folder: Path, card: str) -> Path:
    """Write the next version of a run's SavedModel.

    It is written under another name and renamed when it is whole, so that a server that watches the folder never sees
    a part of it.

    Args:
        run: folder of a finished run.
        folder: of the versions; made where it does not exist.
        card: the model card, in Markdown.

    Returns:
        The folder of the new version.

    Raises:
        UserError: Keras runs on another backend; the run cannot be loaded; `folder` holds something else, or another
            export is writing into it.
    """
    require_tensorflow()
    recogniser = load_run(run)
    with _opened(folder):
        version = folder / str(max(export_versions(folder), default=0) + 1)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
        try:
            unfinished.chmod(0o755)  # mkdtemp's own is for this user alone, and a server may be another
            with full_disk_explained(folder):
                _write(LineGraph(recogniser), RunFolder(run), card, unfinished)
            unfinished.rename(version)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return version


def require_tensorflow() -> None:
    """Refuse a backend whose graph is not TensorFlow's.

    Raises:
        UserError: it is one.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"export: expected Keras on TensorFlow. Received: KERAS_BACKEND={keras.backend.backend()}; a run "
            "trained on it exports with KERAS_BACKEND=tensorflow"
        )


def write_assets(emotions: Sequence[str], run: RunFolder, card: str, folder: Path) -> list[Path]:
    """Write what an export says of itself: labels, model card, provenance, configuration, predictions.

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
    """Name the folder where TensorFlow cannot write.

    Raises:
        OSError: the disk is full, or it cannot be written for another reason.
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
    """The folder for this export alone; what a killed one left is removed."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a new folder or that of an export. Received: a file")
    if printable(folder.absolute()) != str(folder.absolute()):
        raise UserError(f"{folder}: expected a folder whose path is UTF-8, as TensorFlow needs it; choose another")
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        versions = {str(version) for version in export_versions(folder)}
        for path in sorted(folder.iterdir()):
            if path.name not in versions and not path.name.startswith(UNFINISHED):
                raise UserError(
                    f"{folder}: expected a new folder or that of an export. Received: one that holds {path.name}; "
                    "choose another"
                )
        for path in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(path)
        yield
