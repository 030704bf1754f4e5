"""All statistics of a cross-validation in one object; `dataclasses.asdict` turns it into JSON values."""

from dataclasses import dataclass

from ser_tf.corpora.demographics import Demographics
from ser_tf.statistics.comparison import Comparison, compare_strategies
from ser_tf.statistics.confidence import Calibration, RiskCoverage, calibration, risk_coverage
from ser_tf.statistics.groups import ExclusionEffect, GroupScores, exclusion_effect, group_scores
from ser_tf.statistics.scores import (
    CONFIDENCE_LEVEL,
    GENERATOR_SEED,
    RESAMPLES,
    StrategyScores,
    strategy_scores,
)
from ser_tf.statistics.table import PredictionTable


@dataclass(frozen=True)
class StrategySummary:
    """All statistics of one strategy."""

    scores: StrategyScores
    calibration: Calibration
    risk_coverage: RiskCoverage
    groups: GroupScores
    exclusions: ExclusionEffect


@dataclass(frozen=True)
class Summary:
    """The statistics of a prediction table and their settings."""

    corpus: str
    scheme: str
    scheme_hash: str
    data_hash: str
    side: str
    emotions: list[str]
    confidence_level: float
    resamples: int
    generator_seed: int
    strategies: dict[str, StrategySummary]
    comparisons: list[Comparison]


def summarise(table: PredictionTable, demographics: Demographics) -> Summary:
    """Compute all statistics of a table.

    Args:
        table: predictions of at least one strategy.
        demographics: sex and age of its speakers.

    Raises:
        UserError: a strategy or a seed lacks utterances that another has.
    """
    comparisons = compare_strategies(table)  # first: it refuses strategies with different utterances
    return Summary(
        corpus=table.corpus,
        scheme=table.scheme,
        scheme_hash=table.scheme_hash,
        data_hash=table.data_hash,
        side="test",
        emotions=list(table.emotions),
        confidence_level=CONFIDENCE_LEVEL,
        resamples=RESAMPLES,
        generator_seed=GENERATOR_SEED,
        strategies={strategy: summarise_strategy(table, strategy, demographics) for strategy in table.strategies},
        comparisons=list(comparisons),
    )


def summarise_strategy(table: PredictionTable, strategy: str, demographics: Demographics) -> StrategySummary:
    """Compute all statistics of one strategy.

    Raises:
        UserError: its seeds were tested on different utterances.
    """
    return StrategySummary(
        scores=strategy_scores(table, strategy),
        calibration=calibration(table, strategy),
        risk_coverage=risk_coverage(table, strategy),
        groups=group_scores(table, strategy, demographics),
        exclusions=exclusion_effect(table, strategy),
    )
