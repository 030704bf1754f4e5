"""Predictions of many runs in one table, and their confusion counts."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser_tf.config import Config, changed
from ser_tf.corpora.kind import CorpusKind
from ser_tf.corpora.known import KNOWN_CORPORA
from ser_tf.errors import UserError
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.predictions import read_side
from ser_tf.strategies import STRATEGIES, start_in_words

SHARED = ("corpus", "scheme", "scheme_hash", "data_hash", "emotions")
"""Equal in all runs of a table."""


@dataclass(frozen=True)
class PredictionTable:
    """Predictions of runs that share corpus, data and folds."""

    corpus: str
    scheme: str
    scheme_hash: str
    data_hash: str
    emotions: tuple[str, ...]
    """Label order."""
    rows: pd.DataFrame
    """A row per run and utterance, with the columns strategy, seed, fold, utterance (its name in the corpus), file,
    speaker, truth and prediction (both categories in label order), and the probability of each emotion."""
    starts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the networks of each strategy started from, in words; without yardsticks."""

    @property
    def strategies(self) -> tuple[str, ...]:
        """Their names, sorted."""
        return tuple(sorted(self.rows["strategy"].unique()))

    def select(self, chosen: pd.Series) -> "PredictionTable":
        """The table of the chosen rows; `chosen` holds a bool per row."""
        return dataclasses.replace(self, rows=self.rows[chosen])

    def of(self, *strategies: str) -> "PredictionTable":
        """The rows of these strategies, all of whose seeds must have been tested on the same utterances.

        Raises:
            UserError: a strategy is not in the table, or a strategy or seed lacks utterances that another has.
        """
        for strategy in strategies:
            if strategy not in self.strategies:
                raise UserError(f"strategy: expected one of {', '.join(self.strategies)}. Received: {strategy}")
        part = self.select(self.rows["strategy"].isin(strategies))
        part._require_equal_sets()
        return part

    def confusions(self, *by: str) -> tuple[np.ndarray, list[list[Any]]]:
        """Confusion counts.

        Args:
            by: columns to group by, as in ("seed", "speaker").

        Returns:
            Counts int [values of the first column, ..., C, C], a row per true emotion and a column per predicted one;
            and the sorted values of each column.
        """
        factors = [pd.factorize(self.rows[column], sort=True) for column in by]
        classes = [self.rows[column].cat.codes.to_numpy("int64") for column in ("truth", "prediction")]
        shape = (*(len(values) for _, values in factors), len(self.emotions), len(self.emotions))
        cells = np.ravel_multi_index((*(codes for codes, _ in factors), *classes), shape)
        counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
        return counts, [list(values) for _, values in factors]

    def _require_equal_sets(self) -> None:
        key = self.rows.groupby(["fold", "utterance", "speaker", "truth"], observed=True, sort=False).ngroup()
        run = self.rows.groupby(["strategy", "seed"], sort=False).ngroup()
        held = np.zeros((run.max() + 1, key.max() + 1), bool)
        held[run, key] = True
        if held.all():
            return
        poorest = int(held.sum(axis=1).argmin())
        missing = np.flatnonzero(~held[poorest])
        lacking = self.rows[(run == poorest).to_numpy()].iloc[0]
        example = self.rows[(key == missing[0]).to_numpy()].iloc[0]
        raise UserError(
            f"{lacking['strategy']}, seed {lacking['seed']}: expected the same utterances as in the other runs. "
            f"Received: {len(missing)} of {held.shape[1]} are missing, such as {example['utterance']} of fold "
            f"{example['fold']}; finish its folds, or compare only runs of the same folds"
        )


@dataclass(frozen=True)
class _Run:
    """The content of one run folder."""

    folder: Path
    strategy: str
    seed: int
    fold: int
    corpus: str
    scheme: str
    scheme_hash: str
    data_hash: str
    emotions: tuple[str, ...]
    start: str
    """What the network started from, in words; empty for a yardstick."""
    method: tuple[Config, str]
    """Configuration with seed 0, and the start; equal in all runs of a strategy."""
    rows: pd.DataFrame


def read_predictions(folders: Sequence[Path]) -> PredictionTable:
    """Read the predictions of finished runs on their test speakers.

    Args:
        folders: run folders of any strategies, seeds and folds.

    Raises:
        UserError: a folder holds no finished run, its predictions are damaged, or the runs do not belong together:
            different corpora, schemes or data, the same run twice, or a strategy with two configurations.
    """
    if not folders:
        raise UserError("runs: expected at least one run folder; give those that ser-tf evaluate wrote")
    runs = [_read_run(RunFolder(Path(folder))) for folder in folders]
    first = runs[0]
    places: dict[tuple[str, int, int], _Run] = {}
    methods: dict[str, _Run] = {}
    for run in runs:
        for what in SHARED:
            if getattr(run, what) != getattr(first, what):
                raise UserError(
                    f"{run.folder}: expected the {what} of {first.folder}: {getattr(first, what)}. "
                    f"Received: {getattr(run, what)}; evaluate these runs separately"
                )
        twin = places.setdefault((run.strategy, run.seed, run.fold), run)
        if twin is not run:
            raise UserError(
                f"{run.folder}: {run.strategy}, seed {run.seed}, fold {run.fold} is also in {twin.folder}; "
                "give one of them"
            )
        like = methods.setdefault(run.strategy, run)
        if like.method != run.method:
            raise UserError(
                f"{run.folder}: expected {run.strategy} with the configuration and the start of {like.folder}. "
                "Received: a different one; evaluate these runs separately"
            )
    return PredictionTable(
        **{what: getattr(first, what) for what in SHARED},
        rows=pd.concat([run.rows for run in runs], ignore_index=True),
        starts={run.strategy: run.start for run in runs if run.start},
    )


def _read_run(folder: RunFolder) -> _Run:
    folder.require_finished()
    identity = folder.read_identity()
    missing = [key for key in ("strategy", "fold", "weights", *SHARED[:-1]) if key not in identity]
    if missing:
        raise UserError(f"{folder.identity}: expected {', '.join(missing)}; train this run again")
    config = Config.load(folder.config)
    seed = config.training.seed
    start = start_in_words(identity["weights"]) if identity["strategy"] in STRATEGIES else ""
    emotions, rows = read_side(folder.predictions, "test")
    rows.insert(0, "strategy", identity["strategy"])
    rows.insert(1, "seed", seed)
    rows.insert(2, "fold", identity["fold"])
    rows.insert(3, "utterance", _utterance_names(rows["file"], identity["corpus"]))
    return _Run(
        folder=folder.path,
        seed=seed,
        emotions=emotions,
        start=start,
        method=(changed(config, {"training.seed": 0}), start),
        rows=rows,
        **{key: identity[key] for key in ("strategy", "fold", *SHARED[:-1])},
    )


def _utterance_names(files: pd.Series, corpus: str) -> list[str]:
    """Names as in `Utterance.name`, independent of folder and file format; of joined corpora if all are known."""
    kinds = [kind for kind in KNOWN_CORPORA if kind.name in corpus.split("+")]
    if len(kinds) < len(corpus.split("+")):
        return [str(Path(file).with_suffix("")) for file in files]
    return [_name_in(kinds, Path(file)) for file in files]


def _name_in(kinds: Sequence[CorpusKind], path: Path) -> str:
    """The name in the corpus whose file it is; without one the file name."""
    names = (name for kind in kinds if kind.speaker(name := kind.name_of(path)))
    return next(names, path.stem)
