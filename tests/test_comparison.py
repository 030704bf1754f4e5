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
    """Strategy -> per seed, per speaker: how many of ten happy utterances are named rightly; the ten sad ones all are.

    One more hit of one speaker is 5 points of that speaker's UAR.
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
    return PredictionTable("ravdess", "complete", "0" * 16, "1" * 16, "test", emotions, table)


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


@pytest.mark.parametrize("speakers", [3, 6, 9])
def test_p_is_that_of_exchanging_counts_and_recomputing_uar(rng, speakers):
    first, second = random_pair(rng, speakers)
    differences = []
    for exchanged in product([False, True], repeat=speakers):
        mask = np.array(exchanged)[:, None, None]
        one, other = np.where(mask, second, first), np.where(mask, first, second)
        differences.append(uar(one.sum(axis=0)) - uar(other.sum(axis=0)))
    observed = differences[0]
    # Two-sided by scipy's rule: twice the smaller tail. The exchange of all turns the sign, so both tails mirror.
    tail = np.mean(np.array(differences) >= abs(observed) - 1e-12)
    assert 0 < tail < 0.5
    assert permutation_p(first, second) == pytest.approx(2 * tail)
    assert permutation_p(second, first) == pytest.approx(2 * tail)


def test_p_of_many_speakers_is_drawn_and_close_to_the_exact_one(rng):
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
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and the last may not be below 0.06.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.6])).tolist() == [1, 1]
    assert holm(np.array([0.04])).tolist() == [0.04]


def test_the_difference_equals_that_of_scikit_learn_and_turns_its_sign(table_of):
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


def test_three_speakers_can_show_nothing():
    # Of 8 exchanges, two are as extreme as none: 0.25.
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


def test_one_strategy_has_nobody_to_be_compared_with(table_of):
    assert compare_strategies(table_of({"S1": 0.3})) == ()


def test_a_difference_that_is_not_shown():
    # S5 gains 2 hits (10 points) on 6 speakers and loses 2 on 4: +2 points. Among 10 drawn speakers the gainers are
    # Binomial(10, 0.6): 2.5 % below 3, which gives 3 - 7 = -4 points, and above 9, 9 - 1 = 8.
    # Exchanges: at least 6 of 10 on one side, 2 * 386 / 1024 = 0.754.
    comparison = compared({"S4": [[4] * 10], "S5": [[6] * 6 + [2] * 4]})
    assert comparison.sentence == (
        "S5 is 2.0 points of UAR above S4 (95 % interval -4.0 to 8.0 over 10 speakers, p = 0.754): "
        "no difference shown between these trained models (S5: one seed; S4: one seed)."
    )


def test_a_difference_between_single_seeds_is_one_between_trained_models():
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


def test_a_difference_of_the_size_of_the_seeds_is_none_between_strategies():
    # S5 has 5, 6 and 7 of 10, so 75, 80 and 85 %: 10 points above S4, by seeds alone 12.4 more or less.
    comparison = compared({"S4": [[4] * 10] * 3, "S5": [[5] * 10, [6] * 10, [7] * 10]})
    assert comparison.p_holm < 0.05
    assert (
        "): these trained models differ, yet other seeds might not: no difference shown between the strategies (S5: 3"
        in (comparison.sentence)
    )


def test_a_margin_over_seeds_is_welchs():
    # Both spread: scipy's own interval of the difference of the means is the reference.
    comparison = compared({"S4": [[1] * 10, [2] * 10, [4] * 10], "S5": [[5] * 10, [6] * 10, [9] * 10]})
    seeds = comparison.first_over_seeds.values, comparison.second_over_seeds.values
    low, high = ttest_ind(*seeds, equal_var=False).confidence_interval(0.95)
    assert comparison.seed_margin == pytest.approx((high - low) / 2)


def test_a_method_without_seeds_needs_none():
    # Ten points on each of 10 speakers, as above; three equal seeds of S5 have no spread.
    table = with_hits({"mfcc_svm": [[4] * 10], "S5": [[6] * 10] * 3})
    (comparison,) = compare_strategies(table, [("S5", "mfcc_svm")], ["mfcc_svm"])
    assert comparison.seed_margin == pytest.approx(0, abs=1e-9)
    assert comparison.sentence == (
        "S5 is 10.0 points of UAR above mfcc_svm (95 % interval 10.0 to 10.0 over 10 speakers, p = 0.002): the methods "
        "differ (S5: 3 seeds with a standard deviation of 0.0 points; mfcc_svm: nothing drawn)."
    )


def test_a_network_of_one_seed_is_no_claim_beside_a_method_without_seeds():
    table = with_hits({"mfcc_svm": [[4] * 10], "S5": [[6] * 10]})
    (comparison,) = compare_strategies(table, [("S5", "mfcc_svm")], ["mfcc_svm"])
    assert "): these trained models differ; a claim about the methods needs 3 seeds of S5 (" in comparison.sentence


def test_three_seeds_that_show_nothing_speak_of_the_strategies():
    hits = {"S4": [[4] * 10] * 3, "S5": [[6] * 6 + [2] * 4] * 3}
    assert "): no difference shown between the strategies (S5: 3 seeds" in compared(hits).sentence


def test_an_interval_that_knows_nothing_of_the_other_pairs_says_so():
    # S2 against S1: +10 points on 9 speakers, -10 on one: p = 2 * 11 / 1024 = 0.0215, times 3 pairs 0.064. The gainers
    # among 10 drawn ones are Binomial(10, 0.9): 2.5 % lie below 7, so the interval starts at 7 - 3 = 4 points.
    # S3 is S2 on the first five speakers and S1 on the others: both pairs with it have larger p.
    comparisons = compare_strategies(with_hits({"S1": [[4] * 10], "S2": [[6] * 9 + [2]], "S3": [[6] * 5 + [4] * 5]}))
    assert comparisons[0].p_holm == pytest.approx(3 * 22 / 1024)
    assert comparisons[0].sentence == (
        "S2 is 8.0 points of UAR above S1 (95 % interval 4.0 to 10.0 over 10 speakers, p = 0.064 after "
        "Holm's correction for 3 pairs, which the interval does not have): no difference shown between these trained "
        "models (S2: one seed; S1: one seed)."
    )


def test_a_small_p_is_not_written_as_zero():
    # 13 speakers: 2 / 2**13.
    assert ", p < 0.001): " in compared({"S4": [[4] * 13], "S5": [[6] * 13]}).sentence


def test_strategies_of_unequal_sets_are_never_compared():
    table = with_hits({"S4": [[4] * 4], "S5": [[6] * 4]})
    lacking = (table.rows["strategy"] == "S4") & (table.rows["speaker"] == "ravdess:02")
    message = (
        "S4, seed 0: expected the same utterances as in the runs beside it. Received: 20 of 80 are missing, "
        "such as 2-happy-0 of fold 1"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        compare_strategies(table.select(~lacking))


def test_chosen_pairs_are_corrected_for_each_other_alone():
    table = with_hits({"S1": [[1, 2, 3]], "S3": [[4, 5, 6]], "S5": [[7, 8, 9]]})
    (chosen,) = compare_strategies(table, [("S1", "S5")])
    (every,) = (one for one in compare_strategies(table) if (one.first, one.second) == ("S1", "S5"))
    assert (chosen.first, chosen.second, chosen.pairs, chosen.p_holm) == ("S1", "S5", 1, chosen.p)
    assert (every.p, every.pairs, every.p_holm) == (chosen.p, 3, pytest.approx(3 * chosen.p))
