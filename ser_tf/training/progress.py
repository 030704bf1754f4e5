"""The state that an interrupted training resumes from: every variable, and the epochs so far."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from ser_tf.documents import misfit, parse_json
from ser_tf.errors import UserError


class Progress:
    """The epochs trained so far. `Schedule` derives from them when to stop and which epoch to keep.

    Attributes:
        epochs: one mapping of logged values per finished epoch.
    """

    SCORE = "validation_uar"
    """Name of the logged value that scores an epoch."""
    SIGN = 1
    """1 if higher is better, -1 if lower is."""

    def __init__(self, epochs: Sequence[dict[str, float]] = ()) -> None:
        self.epochs = list(epochs)

    @property
    def best_epoch(self) -> int:
        """Number, from 0, of the first epoch with the best score; -1 before any. Unscored epochs have NaN."""
        scores = [self.SIGN * epoch[self.SCORE] for epoch in self.epochs]
        return -1 if np.all(np.isnan(scores)) else int(np.nanargmax(scores))

    def save(self, path: Path, variables: Sequence[keras.Variable]) -> None:
        """Write the epochs and every variable's value to one `.npz` file, atomically."""
        unfinished = path.with_name(f"unfinished-{path.name}")
        arrays: dict[str, Any] = {
            str(index): keras.ops.convert_to_numpy(variable) for index, variable in enumerate(variables)
        }
        np.savez(unfinished, epochs=np.array(json.dumps(self.epochs)), **arrays)
        unfinished.replace(path)

    @classmethod
    def restore(cls, path: Path, variables: Sequence[keras.Variable]) -> Self:
        """Read what `save` wrote, and assign the values to the variables.

        Raises:
            UserError: the file is damaged, or belongs to a different training.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                for index, variable in enumerate(variables):
                    variable.assign(file[str(index)])
                epochs = parse_json(str(file["epochs"]))
            if misfit(epochs, [{str: float}]) or not all(
                epoch.keys() == epochs[0].keys() and cls.SCORE in epoch for epoch in epochs
            ):
                raise ValueError("epochs without their score")
            return cls(epochs)
        except Exception as error:
            raise UserError(
                f"{path}: expected the state of this training; the file is damaged or belongs to a different one. "
                "Remove the run folder and start again"
            ) from error


class VerificationProgress(Progress):
    """Progress of a pre-training. Its score is the equal error rate on speakers not trained on."""

    SCORE = "validation_eer"
    SIGN = -1
