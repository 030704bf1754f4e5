"""The packaged models and their cards: which there are, and whether a file is the one that its card describes.

A packed model is three files: `NAME.onnx`; `NAME.json`, its card; and `NAME.csv`, the predictions for its validation
and test recordings. `ser-tf pack` writes them, here or anywhere else. No TensorFlow.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_tf.config import Config
from ser_tf.documents import read_json
from ser_tf.errors import UserError
from ser_tf.serving.onnx_recogniser import OnnxRecogniser

MODELS = Path(__file__).parents[1] / "models"
"""Folder of the packaged models."""
DEFAULT = "crema_d"
"""Name of the model that answers where none is chosen."""
SUFFIX = ".onnx"

_ESTIMATE = {"value": (float, None), "low": (float, None), "high": (float, None)}
SCORES: dict[str, Any] = {
    "corpus": str,
    "folds": [int],
    "utterances": int,
    "speakers": int,
    **dict.fromkeys(("uar", "wa", "macro_f1"), _ESTIMATE),
    "recall": {str: _ESTIMATE},
}
"""Shape of a card's scores, as `ser_tf.documents.misfit` takes it."""
CARD: dict[str, Any] = {
    "name": str,
    "sha256": str,
    "emotions": [str],
    "network": str,
    "strategy": str,
    "data": [{"corpus": str, "title": str, "licence": str, "terms": str, "speakers": int}],
    "cross_validated": SCORES,
    "other_corpora": [SCORES],
    "intended_use": [str],
    "limits": [str],
    "config": dict,
    "provenance": dict,
}
"""Shape of a card."""


@dataclass(frozen=True)
class PackedModel:
    """A model in one file, with its card beside it.

    Attributes:
        path: the model, NAME.onnx.
    """

    path: Path

    @property
    def card_path(self) -> Path:
        """The card."""
        return self.path.with_suffix(".json")

    @property
    def predictions(self) -> Path:
        """What the model named its validation and test recordings."""
        return self.path.with_suffix(".csv")

    @property
    def remedy(self) -> str:
        """What to do about a damaged file."""
        return "install ser_tf again" if self.path.parent == MODELS else "pack the run again"

    def card(self) -> dict[str, Any]:
        """Everything that the card says, of the shape `CARD`.

        Raises:
            UserError: the card is missing or damaged.
        """
        return read_json(self.card_path, f"{self.path.name} needs its card; {self.remedy}", CARD)

    def load(self) -> OnnxRecogniser:
        """The model, ready to name emotions.

        Raises:
            UserError: a file is missing or damaged, or the model is not the one that the card describes.
        """
        card = self.card()
        try:
            model = self.path.read_bytes()
        except OSError as error:
            raise UserError(f"{self.path}: expected a readable model; {error.strerror}; {self.remedy}") from error
        found = hashlib.sha256(model).hexdigest()
        if found != card["sha256"]:
            raise UserError(
                f"{self.path}: expected the model that {self.card_path.name} describes, with SHA-256 "
                f"{card['sha256'][:16]}... Received: {found[:16]}... ({len(model):,} bytes); {self.remedy}"
            )
        config = Config.of(card["config"], where=str(self.card_path))
        return OnnxRecogniser(self.path, model, tuple(card["emotions"]), config, self.remedy)


def packaged_models() -> dict[str, PackedModel]:
    """The packaged models by name, the default first."""
    names = sorted((path.stem for path in MODELS.glob(f"*{SUFFIX}")), key=lambda name: (name != DEFAULT, name))
    return {name: PackedModel(MODELS / f"{name}{SUFFIX}") for name in names}


def packed_model(model: str | Path | None) -> PackedModel | None:
    """The packaged model of a name, the packed one at a path, or the default; None for anything else.

    Raises:
        UserError: the default is asked for, and no such model is packaged.
    """
    packaged = packaged_models()
    if model is None:
        if DEFAULT not in packaged:
            raise UserError(
                "model: expected one, since this copy of ser_tf has no packaged model yet; give the folder of a run or "
                "of an export (ser-tf predict --model RUN FILES, ser_tf.load(RUN)), or make the model: make model"
            )
        return packaged[DEFAULT]
    if str(model) in packaged:
        return packaged[str(model)]
    path = Path(model)
    return PackedModel(path) if path.suffix == SUFFIX and path.is_file() else None
