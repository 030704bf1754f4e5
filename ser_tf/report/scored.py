"""An evaluation with all its statistics: summaries, comparisons, demographics."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from ser_tf.corpora.demographics import Demographics, demographics_of
from ser_tf.errors import UserError
from ser_tf.report.evaluations import Evaluation, Line
from ser_tf.report.figures import Look, looks_of
from ser_tf.report.words import corpus_name
from ser_tf.statistics.comparison import Comparison, compare_strategies
from ser_tf.statistics.summary import StrategySummary, summarise_strategy
from ser_tf.statistics.table import PredictionTable


@dataclass(frozen=True)
class Scored:
    """An evaluation with all its statistics."""

    evaluation: Evaluation
    summaries: dict[str, StrategySummary]
    """By label of the line."""
    comparisons: tuple[Comparison, ...]
    """Between networks, over the folds that all of them have finished."""
    against_yardsticks: tuple[Comparison, ...]
    """Of each network with each yardstick but the majority class, over the folds that all lines have finished."""
    compared_folds: tuple[int, ...]
    demographics: Demographics
    looks: dict[str, Look]
    has_twin: bool
    """Whether the report also holds the same folds of other recordings."""

    @property
    def corpus(self) -> str:
        """Its name as people write it."""
        return corpus_name(self.evaluation.corpus)

    @property
    def title(self) -> str:
        """Corpus and folds; with a twin, also the first digits of the data hash."""
        data = f" of data {self.evaluation.data_hash[:4]}" * self.has_twin
        return f"{self.corpus}, {self.evaluation.scheme} folds{data}"

    @property
    def slug(self) -> str:
        """Start of its file names."""
        one = self.evaluation
        return f"{one.corpus}-{one.scheme}-{one.data_hash[:4]}-{one.scheme_hash[:4]}"

    @property
    def informative(self) -> list[str]:
        """Labels of the lines that name more than one emotion: all but the majority class."""
        return [line.label for line in self.evaluation.scored if line.method != "majority"]

    @property
    def confident(self) -> list[str]:
        """Labels of the informative lines with probabilities; listeners have votes."""
        listeners = [line.label for line in self.evaluation.scored if line.method == "human"]
        return [label for label in self.informative if label not in listeners]

    @property
    def emotions(self) -> list[str]:
        """In label order."""
        (first, *_) = self.summaries.values()
        return list(first.scores.pooled.recall)

    def finished_folds(self, line: Line) -> str:
        """How many folds the line has finished, as in "3 of 10"."""
        count = self.evaluation.fold_count
        return f"{len(line.folds)} of {count}" if count else f"{len(line.folds)}"

    @property
    def partial(self) -> bool:
        """Whether a line lacks folds."""
        count = self.evaluation.fold_count or 0
        lacking = any(len(line.folds) < count for line in self.evaluation.scored)
        return lacking or any(not run.folder.finished for run in self.evaluation.runs)


def scored_evaluation(evaluation: Evaluation, roots: Sequence[Path] = (), *, has_twin: bool = False) -> Scored:
    """Compute all statistics.

    Args:
        evaluation: at least one of its lines has a finished run.
        roots: directories of the corpora, if available.
        has_twin: whether the report also holds the same folds of other recordings.

    Raises:
        UserError: predictions are damaged.
    """
    tables = {line.label: line.table() for line in evaluation.scored}
    demographics = demographics_of(evaluation.speakers, roots)
    networks = [line.label for line in evaluation.networks]
    yardsticks = [line.label for line in evaluation.scored if not line.network and line.method != "majority"]
    folds = evaluation.common_folds
    against = [(one, other) for one in networks for other in yardsticks]
    return Scored(
        evaluation,
        {label: summarise_strategy(table, label, demographics) for label, table in tables.items()},
        comparisons=_compared(tables, folds, list(combinations(networks, 2))),
        against_yardsticks=_compared(tables, folds, against, yardsticks),
        compared_folds=folds,
        demographics=demographics,
        looks=looks_of(list(tables)),
        has_twin=has_twin,
    )


def _compared(
    tables: Mapping[str, PredictionTable],
    folds: Sequence[int],
    pairs: Sequence[tuple[str, str]],
    seedless: Sequence[str] = (),
) -> tuple[Comparison, ...]:
    """Compare over these folds; empty without folds or pairs, or if one table lacks a recording of another."""
    names = sorted({name for pair in pairs for name in pair})
    if not names or not folds:
        return ()
    rows = pd.concat([tables[name].rows for name in names], ignore_index=True)
    together = dataclasses.replace(tables[names[0]], rows=rows[rows["fold"].isin(folds)])
    try:
        return compare_strategies(together, pairs, seedless)
    except UserError:
        return ()
