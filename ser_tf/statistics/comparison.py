"""Paired comparisons of strategies: the same speakers, utterances and folds."""

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import permutation_test, t

from ser_tf.statistics.scores import (
    CONFIDENCE_LEVEL,
    GENERATOR_SEED,
    RESAMPLES,
    SCORES,
    SEEDS_FOR_A_CLAIM,
    Estimate,
    Spread,
    estimates,
    interval_in_words,
    points,
    score_confusions,
    seeds_in_words,
)
from ser_tf.statistics.table import PredictionTable

SIGNIFICANCE_LEVEL = 0.05

_UAR = SCORES.index("uar")
_BATCH = 1000


@dataclass(frozen=True)
class Comparison:
    """UAR of one strategy against that of another; both are means over seeds."""

    first: str
    second: str
    difference: Estimate
    """UAR of the first minus that of the second, with an interval from resampling speakers; Holm's correction does not
    widen it."""
    p: float
    """Two-sided, from permutations that swap the two strategies for some speakers."""
    p_holm: float
    """Corrected for all pairs by Holm's method."""
    pairs: int
    speakers: int
    first_over_seeds: Spread
    """UAR of each seed."""
    second_over_seeds: Spread
    seed_margin: float | None
    """Half the 95 % interval of the difference from the spread over seeds (Welch's t); None if a strategy has only one
    seed. Besides p, the difference must exceed this margin, since resampling speakers says nothing about seeds."""
    seedless: tuple[str, ...]
    """Which of the two are deterministic, so that no number of seeds is needed."""
    sentence: str


def compare_strategies(
    table: PredictionTable, pairs: Sequence[tuple[str, str]] | None = None, seedless: Collection[str] = ()
) -> tuple[Comparison, ...]:
    """Compare strategies; p is corrected for all pairs.

    Args:
        table: their predictions.
        pairs: the strategies to compare; by default all pairs.
        seedless: deterministic methods, such as yardsticks.

    Raises:
        UserError: a strategy or a seed lacks utterances that another has.
    """
    names = table.strategies
    every = table.of(*names)
    parts = {name: every.select(every.rows["strategy"] == name).confusions("seed", "speaker")[0] for name in names}
    pairs = list(combinations(names, 2)) if pairs is None else list(pairs)
    p_values = [permutation_p(parts[first].mean(axis=0), parts[second].mean(axis=0)) for first, second in pairs]
    corrected = holm(np.array(p_values))
    return tuple(
        _comparison(
            pair, parts[pair[0]], parts[pair[1]], (p, p_holm), len(pairs), tuple(n for n in pair if n in seedless)
        )
        for pair, p, p_holm in zip(pairs, p_values, corrected.tolist(), strict=True)
    )


def permutation_p(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of the difference of UAR under permutations that swap the two strategies for some speakers.

    Both strategies were tested on the same utterances, so swaps do not change the counts N_c of true emotions, and the
    difference is a sum over speakers of mean_c (first_cc - second_cc) / N_c. A swap flips the sign of a speaker's term,
    so scipy's paired test on these terms tests UAR. It is exact up to 13 speakers; with more it samples permutations.

    Args:
        first: confusion counts [speakers, C, C].
        second: those of the other strategy on the same utterances.
    """
    spoken = first.sum(axis=(0, 2))
    occurs = spoken > 0
    gained = np.diagonal(first - second, axis1=1, axis2=2)
    terms = (gained[:, occurs] / spoken[occurs]).mean(axis=1)
    if len(terms) < 2:
        return 1.0  # the only swap gives a difference of the same size; scipy refuses one speaker
    test = permutation_test(
        (terms,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        rng=GENERATOR_SEED,
    )
    return float(test.pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct m p-values (Holm 1979): the k-th smallest is multiplied by m - k + 1; their order is kept.

    Args:
        p_values: float [m].
    """
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def difference_of_uar(first: np.ndarray, second: np.ndarray) -> Estimate:
    """UAR of the first minus that of the second, resampling the same speakers for both.

    Args:
        first: confusion counts [speakers, C, C].
        second: those of the other strategy on the same utterances.
    """

    def uar(times_drawn: np.ndarray, counts: np.ndarray) -> np.ndarray:
        confusions = (times_drawn @ counts.reshape(len(counts), -1)).reshape(-1, *counts.shape[1:])
        return score_confusions(confusions)[:, [_UAR]]

    (difference,) = estimates(lambda drawn: uar(drawn, first) - uar(drawn, second), speakers=len(first))
    return difference


def _comparison(
    names: tuple[str, str],
    first: np.ndarray,
    second: np.ndarray,
    p_values: tuple[float, float],
    pairs: int,
    seedless: tuple[str, ...],
) -> Comparison:
    """Compare confusion counts [seeds, speakers, C, C].

    All seeds were tested on the same utterances, so the UAR of the mean counts is the mean UAR of the seeds.
    """
    over_seeds = [Spread.of(score_confusions(counts.sum(axis=1))[:, _UAR]) for counts in (first, second)]
    compared = Comparison(
        *names,
        difference=difference_of_uar(first.mean(axis=0), second.mean(axis=0)),
        p=p_values[0],
        p_holm=p_values[1],
        pairs=pairs,
        speakers=first.shape[1],
        first_over_seeds=over_seeds[0],
        second_over_seeds=over_seeds[1],
        seed_margin=_seed_margin([each for name, each in zip(names, over_seeds, strict=True) if name not in seedless]),
        seedless=seedless,
        sentence="",
    )
    return dataclasses.replace(compared, sentence=_sentence(compared))


def _seed_margin(over_seeds: list[Spread]) -> float | None:
    """Half the 95 % interval of the difference between means over seeds (Welch 1947)."""
    terms = [
        (spread.standard_deviation**2 / len(spread.values), len(spread.values) - 1)
        for spread in over_seeds
        if spread.standard_deviation is not None
    ]
    if len(terms) < len(over_seeds):
        return None
    variance = sum(term for term, _ in terms)
    if not variance:
        return 0.0
    freedom = variance**2 / sum(term**2 / own for term, own in terms)
    return float(t.ppf((1 + CONFIDENCE_LEVEL) / 2, freedom)) * math.sqrt(variance)


def _sentence(compared: Comparison) -> str:
    """As in "S5 is 2.1 points of UAR above S4 (95 % interval ...): no difference shown between ..."."""
    difference = compared.difference
    strategies = [(compared.first, compared.first_over_seeds), (compared.second, compared.second_over_seeds)]
    if difference.value is not None and difference.value < 0:
        difference, strategies = _negative(difference), strategies[::-1]
    (higher, _), (lower, _) = strategies
    value = points(difference.value or 0.0)
    found = f"{higher} is {value} points of UAR above {lower}"
    if float(value) == 0:
        found = f"{higher} and {lower} have the same UAR to a tenth of a point"
    evidence = f"{interval_in_words(difference, compared.speakers)}, {_p_in_words(compared.p_holm)}"
    if compared.pairs > 1:
        evidence += f" after Holm's correction for {compared.pairs} pairs"
        if compared.p_holm > SIGNIFICANCE_LEVEL and (difference.low or 0.0) > 0:
            evidence += ", which does not apply to the interval"
    seeds = "; ".join(
        f"{name}: {'deterministic' if name in compared.seedless else seeds_in_words(over_seeds)}"
        for name, over_seeds in strategies
    )
    return f"{found} ({evidence}): {_verdict(compared)} ({seeds})."


def _verdict(compared: Comparison) -> str:
    """The conclusion: about the strategies if there are enough seeds, otherwise about the trained models."""
    methods = {compared.first: compared.first_over_seeds, compared.second: compared.second_over_seeds}
    drawn = {name: spread for name, spread in methods.items() if name not in compared.seedless}
    seeds_enough = all(len(spread.values) >= SEEDS_FOR_A_CLAIM for spread in drawn.values())
    whom = "the methods" if compared.seedless else "the strategies"
    if compared.p_holm > SIGNIFICANCE_LEVEL:
        return f"no difference shown between {whom if seeds_enough else 'these trained models'}"
    if not seeds_enough:
        needed = f"{SEEDS_FOR_A_CLAIM} seeds of {'each' if len(drawn) == 2 else next(iter(drawn))}"
        return f"these trained models differ; a claim about {whom} needs {needed}"
    if abs(compared.difference.value or 0.0) <= (compared.seed_margin or 0.0):
        return f"these trained models differ, but other seeds might not: no difference shown between {whom}"
    return f"{whom} differ"


def _negative(difference: Estimate) -> Estimate:
    """The difference with opposite sign."""
    value, high, low = (None if end is None else -end for end in (difference.value, difference.low, difference.high))
    return Estimate(value, low, high)


def _p_in_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
