"""The predictions of one run: one row per validation and test recording."""

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ser_tf.errors import UserError, shortened

FIRST_COLUMNS = ("side", "file", "speaker", "truth", "prediction")
"""Of a run's predictions.csv; a column of probabilities for each emotion follows."""
ROUNDING = 1e-6
"""Probabilities are written with six decimals."""


def read_side(path: Path, side: str) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Read a run's predictions.csv.

    Args:
        path: the file.
        side: "validation" or "test".

    Returns:
        The emotions in label order; and the rows of that side: file, speaker, truth and prediction (both categories in
        label order), and the probability of each emotion.

    Raises:
        UserError: the file is missing or damaged, or has no row for that side.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        emotions = tuple(table.columns[len(FIRST_COLUMNS) :])
        if tuple(table.columns[: len(FIRST_COLUMNS)]) != FIRST_COLUMNS or len(emotions) < 2:
            raise ValueError(f"the columns {', '.join(table.columns)}")
        rows = table[table["side"] == side].drop(columns="side")
        rows = rows.astype(dict.fromkeys(emotions, "float64"))
        _check_rows(rows, emotions, side)
    except (OSError, ValueError) as error:  # pandas's parsing errors are ValueErrors
        raise UserError(
            f"{path}: expected the predictions of a run: {', '.join(FIRST_COLUMNS)}, and a column of probabilities for "
            f"each emotion. Received: {shortened(' '.join(str(error).split()))}; "
            "restore the file or train the run again"
        ) from error
    labels = pd.CategoricalDtype(list(emotions))
    return emotions, rows.astype({"truth": labels, "prediction": labels})


def confidence_and_hit(rows: pd.DataFrame, emotions: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the predicted emotion, float [N], and whether the prediction is right, bool [N].

    Args:
        rows: with truth, prediction and probabilities, from `read_side`.
        emotions: the label order.
    """
    predicted = rows["prediction"].cat.codes.to_numpy("int64")
    confidence = rows[list(emotions)].to_numpy()[np.arange(len(rows)), predicted]
    return confidence, predicted == rows["truth"].cat.codes.to_numpy()


def _check_rows(rows: pd.DataFrame, emotions: tuple[str, ...], side: str) -> None:
    """Raise a ValueError that describes the first problem."""
    if rows.empty:
        raise ValueError(f"no row of the {side} side")
    shares = rows[list(emotions)].to_numpy()
    known = rows[["truth", "prediction"]].isin(emotions).all(axis=1).to_numpy()
    spread = (shares >= 0).all(axis=1) & (abs(shares.sum(axis=1) - 1) <= len(emotions) * ROUNDING)
    chosen = pd.Index(emotions).get_indexer(pd.Index(rows["prediction"]))
    largest = shares[np.arange(len(rows)), chosen] >= shares.max(axis=1) - ROUNDING
    checks = {
        "a truth or prediction without a column of its own": known,
        "probabilities that are not a distribution": spread,
        "a prediction that is not the likeliest emotion": largest,
        "a file without a name": rows["file"].map(lambda file: bool(PurePosixPath(file).name)).to_numpy(bool),
        "an utterance for the second time": ~rows["file"].duplicated().to_numpy(),
    }
    for problem, fine in checks.items():
        if not fine.all():
            raise ValueError(f"{problem} in row {rows.index[~fine][0] + 2}")
