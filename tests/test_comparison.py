import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind
from sklearn.metrics import balanced_accuracy_score

from ser_tf.errors import UserError
from ser_tf.statistics.comparison import Comparison, compare_strategies, difference_of_uar, holm, permutation_p
from ser_tf.statistics.scores import score_confusions
from ser_tf.statistics.table import PredictionTable

TAKES = 10


def with_hits(hits: Mapping[str, Sequence[Sequence[int]]]) -> PredictionTable:
    """A table in which each speaker has ten happy and ten sad utterances; all sad ones are recognised.

    `hits` holds per strategy, seed and speaker the number of recognised happy utterances. One hit more is 5 points of a
    speaker's UAR.
    """
    emotions = ("happy", "sad")
    rows = [
        {
            "strategy": strategy,
            "seed": seed,
            "fold": 1 + number % 2,
            "utterance": f"{number}-{emotion}-{take}",
            "speaker": f"ravdess:{number:02d}",
            "truth": emotion,
            "prediction": "sad" if take >= hit else emotion,
        }
        for strategy, seeds in hits.items()
        for seed, speakers in enumerate(seeds)
        for number, hit in enumerate(speakers, start=1)
        for emotion, take in product(emotions, range(TAKES))
    ]
    labels = pd.CategoricalDtype(list(emotions))
    table = pd.DataFrame(rows).astype({"truth": labels, "prediction": labels})
    return PredictionTable("ravdess", "complete", "0" * 16, "1" * 16, emotions, table)


def compared(hits: Mapping[str, Sequence[Sequence[int]]]) -> Comparison:
    (comparison,) = compare_strategies(with_hits(hits))
    return comparison


def random_pair(rng, speakers: int) -> tuple[np.ndarray, np.ndarray]:
    """Confusion counts [speakers, 3, 3] of two strategies; 1 to 6 utterances of each speaker and emotion."""
    pair = np.zeros((2, speakers, 3, 3), int)
    for speaker, emotion in product(range(speakers), range(3)):
        takes = rng.integers(1, 7)
        for strategy, skill in enumerate((0.75, 0.5)):
            shares = np.full(3, (1 - skill) / 2)
            shares[emotion] = skill
            pair[strategy, speaker, emotion] = rng.multinomial(takes, shares)
    return pair[0], pair[1]


def uar(counts: np.ndarray) -> np.ndarray:
    return score_confusions(counts)[..., 1]


def test_one_speaker_shows_no_difference():
    # Of the two permutations, both give a difference of the same size.
    comparison = compared({"S3": [[2]], "S5": [[9]]})
    assert comparison.p == 1
    assert "(no interval from 1 speaker, p = 1.000): no difference shown between these" in comparison.sentence


@pytest.mark.parametrize("speakers", [3, 6, 9])
def test_p_equals_that_of_swapping_counts_and_recomputing_uar(rng, speakers):
    first, second = random_pair(rng, speakers)
    differences = []
    for exchanged in product([False, True], repeat=speakers):
        mask = np.array(exchanged)[:, None, None]
        one, other = np.where(mask, second, first), np.where(mask, first, second)
        differences.append(uar(one.sum(axis=0)) - uar(other.sum(axis=0)))
    observed = differences[0]
    # Two-sided by scipy's rule: twice the smaller tail. Swapping all speakers flips the sign, so the tails are equal.
    tail = np.mean(np.array(differences) >= abs(observed) - 1e-12)
    assert 0 < tail < 0.5
    assert permutation_p(first, second) == pytest.approx(2 * tail)
    assert permutation_p(second, first) == pytest.approx(2 * tail)


def test_p_of_many_speakers_is_sampled_and_close_to_the_exact_one(rng):
    first, second = random_pair(rng, 14)
    swapped = np.array(list(product([1, -1], repeat=14)))
    middle, half = (first + second) / 2, (first - second) / 2
    flipped = np.tensordot(swapped, half, axes=1)
    differences = uar(middle.sum(axis=0) + flipped) - uar(middle.sum(axis=0) - flipped)
    tail = np.mean(differences >= abs(differences[0]) - 1e-12)
    # A share p of 9999 draws has a standard error of sqrt(p / 9999): four of them, doubled like the tail.
    assert permutation_p(first, second) == pytest.approx(2 * tail, abs=8 * np.sqrt(tail / 9999) + 4e-4)
    assert permutation_p(first, second) == permutation_p(first, second)


def test_p_counts_only_emotions_that_occur(rng):
    first, second = random_pair(rng, 6)
    wider = [np.pad(counts, ((0, 0), (0, 1), (0, 1))) for counts in (first, second)]
    assert permutation_p(*wider) == permutation_p(first, second)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and the last is raised to 0.06.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.6])).tolist() == [1, 1]
    assert holm(np.array([0.04])).tolist() == [0.04]


def test_the_difference_equals_that_of_scikit_learn_and_is_antisymmetric(table_of):
    table = table_of({"S1": 0.6, "S2": 0.2}, seeds=2)
    (comparison,) = compare_strategies(table)
    means = {
        strategy: np.mean([balanced_accuracy_score(one["truth"], one["prediction"]) for _, one in rows.groupby("seed")])
        for strategy, rows in table.rows.groupby("strategy")
    }
    assert (comparison.first, comparison.second, comparison.speakers) == ("S1", "S2", 6)
    assert comparison.difference.value == pytest.approx(means["S1"] - means["S2"])
    assert comparison.first_over_seeds.mean == pytest.approx(means["S1"])

    first, second = (table.of(name).confusions("seed", "speaker")[0].mean(axis=0) for name in ("S1", "S2"))
    there, back = difference_of_uar(first, second), difference_of_uar(second, first)
    assert there == comparison.difference
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_the_interval_of_three_speakers_by_hand():
    # Differences of 1, 2 and -6 hits: 5, 10 and -30 points. A draw of one speaker thrice has 1/27 = 3.7 %, above 2.5 %.
    difference = compared({"S1": [[3, 4, 2]], "S2": [[2, 2, 8]]}).difference
    assert asdict(difference) == pytest.approx({"value": -0.05, "low": -0.3, "high": 0.1})


def test_three_speakers_cannot_be_significant():
    # Of 8 permutations, two are as extreme as the observed one: 0.25.
    assert compared({"S1": [[10, 10, 10]], "S2": [[0, 0, 0]]}).p == 0.25


def test_a_strategy_equals_itself(table_of):
    table = with_hits({"S1": [[3, 5, 7]], "S2": [[3, 5, 7]]})
    (comparison,) = compare_strategies(table)
    assert (comparison.difference.value, comparison.p) == (0, 1)
    assert comparison.sentence == (
        "S1 and S2 have the same UAR to a tenth of a point (95 % interval 0.0 to 0.0 over 3 speakers, too few to trust "
        "it, p = 1.000): no difference shown between these trained models (S1: one seed; S2: one seed)."
    )


def test_every_pair_is_compared_and_corrected():
    # Speakers gain 0, 4 and 8 of ten hits: every speaker in the same direction, so p = 2 / 2**10 for each of 3 pairs.
    comparisons = compare_strategies(with_hits({"S1": [[0] * 10], "S2": [[4] * 10], "S3": [[8] * 10]}))
    assert [(one.first, one.second) for one in comparisons] == [("S1", "S2"), ("S1", "S3"), ("S2", "S3")]
    assert [one.difference.value for one in comparisons] == pytest.approx([-0.2, -0.4, -0.2])
    assert [one.p for one in comparisons] == pytest.approx([2 / 1024] * 3)
    assert [one.p_holm for one in comparisons] == pytest.approx([6 / 1024] * 3)
    assert {one.pairs for one in comparisons} == {3}


def test_a_single_strategy_gives_no_comparison(table_of):
    assert compare_strategies(table_of({"S1": 0.3})) == ()


def test_a_difference_that_is_not_significant():
    # S5 gains 2 hits (10 points) on 6 speakers and loses 2 on 4: +2 points. Among 10 drawn speakers the gainers are
    # Binomial(10, 0.6): 2.5 % below 3, which gives 3 - 7 = -4 points, and above 9, 9 - 1 = 8.
    # Permutations: at least 6 of 10 on one side, 2 * 386 / 1024 = 0.754.
    comparison = compared({"S4": [[4] * 10], "S5": [[6] * 6 + [2] * 4]})
    assert comparison.sentence == (
        "S5 is 2.0 points of UAR above S4 (95 % interval -4.0 to 8.0 over 10 speakers, p = 0.754): "
        "no difference shown between these trained models (S5: one seed; S4: one seed)."
    )


def test_a_single_seed_allows_a_conclusion_about_trained_models_only():
    # Ten points on each of 10 speakers: p = 2 / 1024.
    comparison = compared({"S4": [[4] * 10], "S5": [[6] * 10] * 3})
    assert comparison.seed_margin is None
    assert comparison.sentence == (
        "S5 is 10.0 points of UAR above S4 (95 % interval 10.0 to 10.0 over 10 speakers, p = 0.002): these trained "
        "models differ; a claim about the strategies needs 3 seeds of each "
        "(S5: 3 seeds with a standard deviation of 0.0 points; S4: one seed)."
    )


def test_a_difference_between_strategies_needs_three_seeds():
    # S4: 4 of 10 in each seed. S5: 6, 7, 8, so a UAR of 80, 85 and 90 % whose standard error is 5 / sqrt(3) = 2.9; the
    # seeds of S4 are equal, so Welch's t has the 2 degrees of freedom of S5's, whose 97.5 % point is 4.303.
    comparison = compared({"S4": [[4] * 10] * 3, "S5": [[6] * 10, [7] * 10, [8] * 10]})
    assert comparison.seed_margin == pytest.approx(4.303 * 0.05 / np.sqrt(3), rel=1e-4)
    assert comparison.sentence == (
        "S5 is 15.0 points of UAR above S4 (95 % interval 15.0 to 15.0 over 10 speakers, p = 0.002): the strategies "
        "differ (S5: 3 seeds with a standard deviation of 5.0 points; "
        "S4: 3 seeds with a standard deviation of 0.0 points)."
    )


def test_a_difference_within_the_spread_of_seeds_is_not_one_of_strategies():
    # S5 has 5, 6 and 7 of 10, so 75, 80 and 85 %: 10 points above S4, with a margin over seeds of 12.4.
    comparison = compared({"S4": [[4] * 10] * 3, "S5": [[5] * 10, [6] * 10, [7] * 10]})
    assert comparison.p_holm < 0.05
    assert (
        "): these trained models differ, but other seeds might not: no difference shown between the strategies (S5: 3"
        in (comparison.sentence)
    )


def test_a_margin_over_seeds_is_welchs():
    # Both spread: scipy's own interval of the difference of the means is the reference.
    comparison = compared({"S4": [[1] * 10, [2] * 10, [4] * 10], "S5": [[5] * 10, [6] * 10, [9] * 10]})
    seeds = comparison.first_over_seeds.values, comparison.second_over_seeds.values
    low, high = ttest_ind(*seeds, equal_var=False).confidence_interval(0.95)
    assert comparison.seed_margin == pytest.approx((high - low) / 2)


def test_a_deterministic_method_needs_no_seeds():
    # Ten points on each of 10 speakers, as above; three equal seeds of S5 have no spread.
    table = with_hits({"mfcc_svm": [[4] * 10], "S5": [[6] * 10] * 3})
    (comparison,) = compare_strategies(table, [("S5", "mfcc_svm")], ["mfcc_svm"])
    assert comparison.seed_margin == pytest.approx(0, abs=1e-9)
    assert comparison.sentence == (
        "S5 is 10.0 points of UAR above mfcc_svm (95 % interval 10.0 to 10.0 over 10 speakers, p = 0.002): the methods "
        "differ (S5: 3 seeds with a standard deviation of 0.0 points; mfcc_svm: deterministic)."
    )


def test_one_seed_of_a_network_allows_no_claim_against_a_deterministic_method():
    table = with_hits({"mfcc_svm": [[4] * 10], "S5": [[6] * 10]})
    (comparison,) = compare_strategies(table, [("S5", "mfcc_svm")], ["mfcc_svm"])
    assert "): these trained models differ; a claim about the methods needs 3 seeds of S5 (" in comparison.sentence


def test_three_seeds_without_a_difference_are_about_the_strategies():
    hits = {"S4": [[4] * 10] * 3, "S5": [[6] * 6 + [2] * 4] * 3}
    assert "): no difference shown between the strategies (S5: 3 seeds" in compared(hits).sentence


def test_an_interval_without_holms_correction_says_so():
    # S2 against S1: +10 points on 9 speakers, -10 on one: p = 2 * 11 / 1024 = 0.0215, times 3 pairs 0.064. The gainers
    # among 10 drawn ones are Binomial(10, 0.9): 2.5 % lie below 7, so the interval starts at 7 - 3 = 4 points.
    # S3 is S2 on the first five speakers and S1 on the others: both pairs with it have larger p.
    comparisons = compare_strategies(with_hits({"S1": [[4] * 10], "S2": [[6] * 9 + [2]], "S3": [[6] * 5 + [4] * 5]}))
    assert comparisons[0].p_holm == pytest.approx(3 * 22 / 1024)
    assert comparisons[0].sentence == (
        "S2 is 8.0 points of UAR above S1 (95 % interval 4.0 to 10.0 over 10 speakers, p = 0.064 after "
        "Holm's correction for 3 pairs, which does not apply to the interval): no difference shown between these "
        "trained models (S2: one seed; S1: one seed)."
    )


def test_a_small_p_is_not_written_as_zero():
    # 13 speakers: 2 / 2**13.
    assert ", p < 0.001): " in compared({"S4": [[4] * 13], "S5": [[6] * 13]}).sentence


def test_strategies_of_unequal_sets_are_never_compared():
    table = with_hits({"S4": [[4] * 4], "S5": [[6] * 4]})
    lacking = (table.rows["strategy"] == "S4") & (table.rows["speaker"] == "ravdess:02")
    message = (
        "S4, seed 0: expected the same utterances as in the other runs. Received: 20 of 80 are missing, "
        "such as 2-happy-0 of fold 1"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        compare_strategies(table.select(~lacking))


def test_only_chosen_pairs_count_for_the_correction():
    table = with_hits({"S1": [[1, 2, 3]], "S3": [[4, 5, 6]], "S5": [[7, 8, 9]]})
    (chosen,) = compare_strategies(table, [("S1", "S5")])
    (every,) = (one for one in compare_strategies(table) if (one.first, one.second) == ("S1", "S5"))
    assert (chosen.first, chosen.second, chosen.pairs, chosen.p_holm) == ("S1", "S5", 1, chosen.p)
    assert (every.p, every.pairs, every.p_holm) == (chosen.p, 3, pytest.approx(3 * chosen.p))
