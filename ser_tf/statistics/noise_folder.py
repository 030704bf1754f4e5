"""The conditions of a noise measurement, and its files, which only grow."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from ser_tf.documents import misfit, read_json
from ser_tf.errors import UserError, shortened
from ser_tf.runs.files import write_json, write_text

NOISES = ("white", "pink", "babble")
PORTIONS = ("whole", "half")
SNR_DB = (20, 10, 5, 0)
DESCRIPTORS = ("1", "2", "3+")
"""Classes by number of descriptors; with one descriptor, ghosts change nothing."""
CONDITION_COLUMNS = ["noise", "portion", "snr_db"]
COLUMNS = [
    *("strategy", "fold", "seed", "speaker", "emotion", *CONDITION_COLUMNS, "descriptors"),
    *("utterances", "correct", "clean_correct"),
    *("ghost_share", "both_halves", "ghost_share_noisy", "ghost_share_clean"),
]
"""Columns of `noise.csv`. `snr_db` is empty without noise. `descriptors` is the class of the noisy utterance.
`clean_correct` counts correct answers to the same utterances without noise. `ghost_share` is the mean over utterances
of the mean over descriptors; it is empty without ghosts. `both_halves` counts the utterances with a descriptor wholly
in the noisy half and another wholly in the clean half; the last two columns are means over these."""


@dataclass(frozen=True)
class Condition:
    """Kind, portion and level of the noise."""

    noise: str
    portion: str
    snr_db: int | None
    """None without noise."""


CLEAN = Condition("none", "none", None)
CONDITIONS = (CLEAN, *(Condition(*values) for values in product(NOISES, PORTIONS, SNR_DB)))


class NoiseFolder:
    """Names, reads and writes the files of a measurement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = path / "noise.csv"
        self.about = path / "noise.json"

    def begin(self, settings: dict[str, Any], runs: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Open a new folder, or check that an existing one belongs to this measurement.

        Args:
            settings: everything but the runs that determines the numbers.
            runs: name -> hash of each run.

        Returns:
            Name -> what `noise.json` holds about each finished run.

        Raises:
            UserError: the folder holds other files, other settings, or runs that are not among these.
        """
        if not self.about.is_file():
            left = {self.table.name, f"unfinished-{self.table.name}", f"unfinished-{self.about.name}"}
            if self.path.exists() and (not self.path.is_dir() or {file.name for file in self.path.iterdir()} - left):
                raise UserError(f"{self.path}: expected a folder of ser-tf noise or an empty one; choose another --run")
            return {}
        about = self.read_about()
        remedy = "choose another --run or remove the folder"
        changed = [key for key in settings if about["settings"].get(key) != settings[key]]
        if changed:
            raise UserError(f"{self.path}: holds a measurement with another {', '.join(changed)}; {remedy}")
        for name, finished in about["runs"].items():
            if name not in runs:
                raise UserError(f"{self.path}: also holds {name}; give that run too, {remedy}")
            if finished["hash"] != runs[name]:
                raise UserError(f"{self.path}: holds {name} with another identity, configuration or weights; {remedy}")
        return about["runs"]

    def read_about(self) -> dict[str, Any]:
        """Read `noise.json`.

        Raises:
            UserError: it is missing or damaged.
        """
        remedy = "give the folder of a measurement by ser-tf noise, or remove it and measure again"
        about = read_json(self.about, remedy)
        if not _is_measurement(about):
            raise UserError(f"{self.about}: expected the settings and runs of a measurement; {remedy}")
        return about

    def read_rows(self) -> pd.DataFrame:
        """The rows of the finished runs, each value as text.

        Raises:
            UserError: `noise.csv` is missing or damaged.
        """
        remedy = "restore the file, or remove the folder and measure again"
        try:
            rows = pd.read_csv(self.table, dtype=str, keep_default_na=False)
            if list(rows.columns) != COLUMNS:
                raise ValueError(f"the columns {', '.join(rows.columns)}")
        except (OSError, ValueError) as error:
            reason = shortened(" ".join(str(error).split()))
            raise UserError(
                f"{self.table}: expected the columns {', '.join(COLUMNS)}. Received: {reason}; {remedy}"
            ) from error
        names = rows["strategy"] + "-fold" + rows["fold"] + "-seed" + rows["seed"]
        finished = list(self.read_about()["runs"])
        lacking = sorted(set(finished) - set(names))
        if lacking:
            raise UserError(f"{self.table}: expected rows of {', '.join(lacking)}; {remedy}")
        return rows[names.isin(finished)]

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Add the statistics to `noise.json`."""
        write_json(self.about, self.read_about() | {"summary": summary})

    def write(self, rows: pd.DataFrame, about: dict[str, Any]) -> None:
        """Write both files; `noise.json` last, since a run in it counts as finished."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        rows.to_csv(text, index=False, lineterminator="\n")
        write_text(self.table, text.getvalue())
        write_json(self.about, about)


def _is_measurement(about: Any) -> bool:
    run = {"strategy": str, "ghost_clusters": int, "hash": str}
    shape = {"settings": {"corpus": str, "emotions": [str]}, "runs": {str: run}}
    return not misfit(about, shape) and len(about["runs"]) > 0
