"""Scores of a cross-validation with intervals.

Speakers differ far more than the utterances of one speaker, so intervals resample speakers, each with all test
utterances from all folds. They are percentiles of scipy's bootstrap, which are too narrow with few speakers; sentences
then say so.

Every resampling starts from `GENERATOR_SEED`, so equal predictions give equal intervals.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import DegenerateDataWarning, bootstrap

from ser_tf.statistics.table import PredictionTable

CONFIDENCE_LEVEL = 0.95
RESAMPLES = 9_999
GENERATOR_SEED = 0
SEEDS_FOR_A_CLAIM = 3
"""With fewer, sentences are about the trained models, not about the strategy."""
FEW_SPEAKERS = 10
"""With fewer speakers, intervals are too narrow."""

SCORES = ("wa", "uar", "macro_f1")
_BATCH = 1000


@dataclass(frozen=True)
class Estimate:
    """A score or a difference of scores, from 0 to 1, with its 95 % interval.

    The value is None if the truth lacks the emotion. The ends are also None if a resample may lack it, or if there is
    only one speaker.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Spread:
    """Spread of a score, from 0 to 1, over folds or seeds."""

    values: list[float]
    mean: float
    minimum: float
    maximum: float
    standard_deviation: float | None
    """With n - 1; None for a single value."""

    @classmethod
    def of(cls, values: np.ndarray) -> "Spread":
        """Summarise float [N]."""
        deviation = float(values.std(ddof=1)) if len(values) > 1 else None
        return cls(values.tolist(), float(values.mean()), float(values.min()), float(values.max()), deviation)


@dataclass(frozen=True)
class PooledScores:
    """Scores of all utterances pooled; each is the mean over seeds."""

    utterances: int
    """Number per seed; an utterance tested in two folds counts twice."""
    speakers: int
    wa: Estimate
    """Weighted accuracy."""
    uar: Estimate
    """Unweighted average recall, over the emotions in the truth."""
    macro_f1: Estimate
    """Over the same emotions."""
    recall: dict[str, Estimate]
    confusion: list[list[int]]
    """Counts [C, C] summed over seeds: a row per true emotion, a column per predicted one."""
    confusion_percent: list[list[float]]
    """Percent of the row; zeros if the truth lacks the emotion."""


@dataclass(frozen=True)
class StrategyScores:
    """The scores of one strategy."""

    strategy: str
    start: str
    """What its networks started from, in words; empty if unknown or without networks."""
    seeds: list[int]
    folds: list[int]
    pooled: PooledScores
    over_folds: dict[str, Spread]
    """Per score, over folds, as the paper reports it; the value of a fold is its mean over seeds."""
    over_seeds: dict[str, Spread]
    """Per score, over seeds; the value of a seed is the score of its pooled utterances."""
    sentence: str


def strategy_scores(table: PredictionTable, strategy: str) -> StrategyScores:
    """Compute the scores of a strategy.

    Raises:
        UserError: the strategy is not in the table, or its seeds were tested on different utterances.
    """
    own = table.of(strategy)
    by_fold, (seeds, folds) = own.confusions("seed", "fold")
    by_speaker, _ = own.confusions("seed", "speaker")
    pooled = pooled_scores(by_speaker, table.emotions)
    over_seeds = _spreads(score_confusions(by_speaker.sum(axis=1)))
    start = table.starts.get(strategy, "")
    return StrategyScores(
        strategy=strategy,
        start=start,
        seeds=[int(seed) for seed in seeds],
        folds=[int(fold) for fold in folds],
        pooled=pooled,
        over_folds=_spreads(score_confusions(by_fold).mean(axis=0)),
        over_seeds=over_seeds,
        sentence=_sentence(f"{strategy} from {start}" if start else strategy, pooled, over_seeds["uar"]),
    )


def pooled_scores(counts: np.ndarray, emotions: Sequence[str]) -> PooledScores:
    """Scores of all speakers' utterances together.

    Args:
        counts: confusion counts int [seeds, speakers, C, C].
        emotions: the C names, in class order.
    """
    flat = np.moveaxis(counts, 1, 0).reshape(counts.shape[1], -1)

    def score(times_drawn: np.ndarray) -> np.ndarray:
        confusions = (times_drawn @ flat).reshape(-1, counts.shape[0], *counts.shape[2:])
        return score_confusions(confusions).mean(axis=1)

    wa, uar, macro_f1, *recalls = estimates(score, speakers=counts.shape[1])
    confusion = counts.sum(axis=(0, 1))
    percent = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return PooledScores(
        utterances=int(counts[0].sum()),
        speakers=counts.shape[1],
        wa=wa,
        uar=uar,
        macro_f1=macro_f1,
        recall=dict(zip(emotions, recalls, strict=True)),
        confusion=confusion.tolist(),
        confusion_percent=percent.tolist(),
    )


def score_confusions(confusions: np.ndarray) -> np.ndarray:
    """WA, UAR, macro-F1 and the recall of each emotion; UAR and F1 are means over the emotions in the truth.

    Args:
        confusions: counts or shares [..., C, C], a row per true emotion.

    Returns:
        float [..., 3 + C]; the recall of an emotion is NaN if the truth lacks it.
    """
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    spoken, named = confusions.sum(axis=-1), confusions.sum(axis=-2)
    absent = np.full(hits.shape, np.nan)
    recall = np.divide(hits, spoken, out=absent.copy(), where=spoken > 0)
    f1 = np.divide(2 * hits, spoken + named, out=absent, where=spoken > 0)
    wa = hits.sum(axis=-1) / spoken.sum(axis=-1)
    means = np.stack([wa, np.nanmean(recall, axis=-1), np.nanmean(f1, axis=-1)], axis=-1)
    return np.concatenate([means, recall], axis=-1)


def estimates(score: Callable[[np.ndarray], np.ndarray], speakers: int) -> list[Estimate]:
    """Scores with intervals from drawing speakers with replacement.

    Args:
        score: from how often each speaker is drawn, float [B, speakers], to K scores, float [B, K].
        speakers: number of speakers.
    """

    def statistic(drawn: np.ndarray, axis: int) -> np.ndarray:
        """Scores [K, ...] of drawn speakers [..., speakers]; scipy draws indices, `score` needs counts."""
        draws = np.atleast_2d(drawn).astype("int64")
        cells = draws + speakers * np.arange(len(draws))[:, None]
        times_drawn = np.bincount(cells.ravel(), minlength=draws.size).reshape(draws.shape)
        return score(times_drawn.astype("float64")).T.reshape(-1, *drawn.shape[:-1])

    everyone = np.arange(speakers)
    values = statistic(everyone, axis=-1)
    ends = np.full((2, len(values)), np.nan)
    if speakers > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DegenerateDataWarning)  # a resample lacks an emotion; the ends become None
            interval = bootstrap(
                (everyone,),
                statistic,
                axis=-1,
                n_resamples=RESAMPLES,
                batch=_BATCH,
                confidence_level=CONFIDENCE_LEVEL,
                method="percentile",
                rng=GENERATOR_SEED,
            ).confidence_interval
        ends = np.stack([interval.low, interval.high])
    return [Estimate(*map(_number_or_none, triple)) for triple in zip(values, *ends, strict=True)]


def interval_in_words(estimate: Estimate, speakers: int) -> str:
    """The interval in percent, as in "95 % interval 57.0 to 65.1 over 24 speakers"."""
    if estimate.low is None or estimate.high is None:
        return f"no interval from {speakers} speaker{'s' * (speakers != 1)}"
    warning = ", too few to trust it" if speakers < FEW_SPEAKERS else ""
    ends = f"{points(estimate.low)} to {points(estimate.high)}"
    return f"{100 * CONFIDENCE_LEVEL:.0f} % interval {ends} over {speakers} speakers{warning}"


def points(share: float) -> str:
    """A share in percent, or a difference in points, with one decimal and no minus before zero."""
    return f"{round(100 * share, 1) + 0.0:.1f}"


def value_and_interval(estimate: Estimate) -> str:
    """In percent, as in "49.8 [44.1, 55.3]"; "-" without a value."""
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return points(estimate.value)
    return f"{points(estimate.value)} [{points(estimate.low)}, {points(estimate.high)}]"


def seeds_in_words(uar: Spread) -> str:
    """Number of seeds and their standard deviation."""
    if uar.standard_deviation is None:
        return "one seed"
    return f"{len(uar.values)} seeds with a standard deviation of {points(uar.standard_deviation)} points"


def _sentence(strategy: str, pooled: PooledScores, over_seeds: Spread) -> str:
    claim = len(over_seeds.values) >= SEEDS_FOR_A_CLAIM
    subject = f"{strategy} reaches" if claim else f"These trained models of {strategy} reach"
    found = f"{points(over_seeds.mean)} % UAR ({interval_in_words(pooled.uar, pooled.speakers)}; "
    caution = "" if claim else f"; a claim about the strategy needs at least {SEEDS_FOR_A_CLAIM}"
    return f"{subject} {found}{seeds_in_words(over_seeds)}{caution})."


def _spreads(scores: np.ndarray) -> dict[str, Spread]:
    """Per score, from float [folds or seeds, 3 + C]."""
    return {name: Spread.of(scores[:, index]) for index, name in enumerate(SCORES)}


def _number_or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
