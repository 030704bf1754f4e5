"""Embeddings as a step of scikit-learn's pipelines."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from ser_tf.errors import UserError, quoted
from ser_tf.serving.loading import load


class EmotionEmbedding(TransformerMixin, BaseEstimator):
    """Turns recordings into the embeddings of a model, for any classifier or regressor of scikit-learn.

    Nothing is learnt, so it transforms without `fit`, and a pickle holds only the model's name or path.

    Example:
        >>> svm = make_pipeline(ser_tf.EmotionEmbedding("runs/mine"), SVC())  # doctest: +SKIP
        >>> svm.fit(["anna.wav", "ben.wav"], ["tired", "awake"]).predict(["carl.wav"])  # doctest: +SKIP
        array(['awake'], dtype='<U5')

    Args:
        model: a packaged model, a run or an export, as for `ser_tf.load`.
    """

    def __init__(self, model: str | Path | None = None) -> None:
        self.model = model

    def fit(self, X: Iterable[Any], y: Any = None) -> Self:
        """Load the model; the recordings are not read.

        Raises:
            UserError: there is no such model, or `X` is no list of paths.
        """
        _paths(X)
        self._load()
        return self

    def transform(self, X: Iterable[Any]) -> np.ndarray:
        """Embed recordings.

        Args:
            X: paths of recordings, [N], or [N, 1] as a column of a table.

        Returns:
            float32 [N, K*D], each row of unit norm.

        Raises:
            UserError: a recording cannot be read or is silent; there is no such model; or `X` is no list of paths.
        """
        paths = _paths(X)
        if not hasattr(self, "_recogniser"):
            self._load()
        return np.stack([self._recogniser(path).embedding for path in paths])

    def _load(self) -> None:
        if not isinstance(self.model, str | Path | None):
            raise UserError(f"model: expected a name or a path. Received: model={quoted(self.model)}")
        self._recogniser = load(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_recogniser"}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


def _paths(recordings: Iterable[Any]) -> list[str | os.PathLike[str]]:
    given = np.asarray(recordings, dtype=object)
    paths = given.ravel().tolist()
    if not paths or given.shape not in ((len(paths),), (len(paths), 1)):
        raise UserError(f"X: expected paths of recordings, [N] or [N, 1]. Received: shape {list(given.shape)}")
    for number, path in enumerate(paths):
        if not isinstance(path, str | os.PathLike):
            raise UserError(f"X: expected paths of recordings. Received: X[{number}]={quoted(path)}")
    return paths
