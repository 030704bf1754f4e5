"""The conditions of a noise measurement and its files, which are only ever added to."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from ser_tf.documents import misfit, read_json
from ser_tf.errors import UserError, shortened
from ser_tf.training.run_folder import write_json, write_text

NOISES = ("white", "pink", "babble")
PORTIONS = ("whole", "half")
SNR_DB = (20, 10, 5, 0)
DESCRIPTORS = ("1", "2", "3+")
"""As they are counted; with one descriptor ghosts can change nothing."""
NOISE = ["noise", "portion", "snr_db"]
COLUMNS = [
    *("strategy", "fold", "seed", "speaker", "emotion", *NOISE, "descriptors"),
    *("utterances", "correct", "clean_correct"),
    *("ghost_share", "both_halves", "ghost_share_noisy", "ghost_share_clean"),
]
"""Of `noise.csv`. `snr_db` is empty without noise; `descriptors` are those of the noisy utterance, 3 and more counted
together; `clean_correct` tells how many of the same utterances are named rightly without noise. `ghost_share` is the
mean over these utterances of the mean over their descriptors, empty without ghosts. `both_halves` counts the utterances
with a descriptor wholly in the noisy and another wholly in the clean half; over them the last two are means."""


@dataclass(frozen=True)
class Condition:
    """One way to hear an utterance."""

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
        """Open a new folder, or make sure that what it holds belongs to this measurement.

        Args:
            settings: what decides the numbers, beside the runs.
            runs: name -> hash of each run.

        Returns:
            What is known of the finished runs, by name.

        Raises:
            UserError: the folder holds something else, other settings, or runs that are not among these.
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
        """What `noise.json` holds.

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
        """Write both files, the one that counts last."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        rows.to_csv(text, index=False, lineterminator="\n")
        write_text(self.table, text.getvalue())
        write_json(self.about, about)


def _is_measurement(about: Any) -> bool:
    run = {"strategy": str, "ghost_clusters": int, "hash": str}
    shape = {"settings": {"corpus": str, "emotions": [str]}, "runs": {str: run}}
    return not misfit(about, shape) and len(about["runs"]) > 0
