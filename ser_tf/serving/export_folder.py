"""What lies in the folder of an export. No TensorFlow."""

from pathlib import Path

from ser_tf.errors import UserError

SAVED_MODEL = "saved_model.pb"
"""File that marks a folder as a SavedModel."""
LABELS = "labels.txt"
"""Asset of an export: one emotion per line, in the order of the probabilities."""
CONFIG = "config.yaml"
"""Asset of an export: the run's configuration."""
PREDICTIONS = "predictions.csv"
"""Asset of an export: the run's predictions for its validation and test recordings."""
UNFINISHED = "unfinished-"
"""Prefix of a version being written; not a number, so servers ignore it."""
ONNX = "emotion.onnx"


def exported_version(path: Path) -> Path | None:
    """The newest version in the folder of an export, or the folder itself if it is a version; None for other folders.

    Raises:
        UserError: the folder of an export has no finished version.
    """
    if not path.name.startswith(UNFINISHED):
        if (path / SAVED_MODEL).is_file():
            return path
        versions = export_versions(path)
        if versions:
            return path / str(versions[-1])
    if path.is_dir() and (path.name.startswith(UNFINISHED) or any(path.glob(f"{UNFINISHED}*/"))):
        raise UserError(f"{path}: expected a finished export. Received: one that was interrupted; export again")
    return None


def is_portable(path: Path) -> bool:
    """Whether a folder is an export to ONNX or LiteRT, which has its assets beside the models."""
    return (path / LABELS).is_file()


def export_versions(folder: Path) -> list[int]:
    """Numbers of the versions in the folder of an export, ascending; empty if the folder does not exist."""
    names = [model.parent.name for model in folder.glob(f"[0-9]*/{SAVED_MODEL}")]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name)
