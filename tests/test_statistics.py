import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace

import audmetric
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import classification_report, confusion_matrix

from ser_tf.statistics.scores import Estimate, Spread, pooled_scores, score_confusions, strategy_scores
from ser_tf.statistics.table import PredictionTable

EMOTIONS = ("neutral", "happy", "sad")
SCORES = ("wa", "uar", "macro_f1")


def by_scikit_learn(rows: pd.DataFrame) -> dict[str, float]:
    truth, prediction = (rows[column].cat.codes.to_numpy() for column in ("truth", "prediction"))
    report = classification_report(truth, prediction, output_dict=True)
    return {"wa": report["accuracy"], "uar": report["macro avg"]["recall"], "macro_f1": report["macro avg"]["f1-score"]}


def values_of(pooled) -> dict[str, float]:
    return {name: getattr(pooled, name).value for name in SCORES}


def counts_of(hits: Sequence[Sequence[int]], takes: int) -> np.ndarray:
    """Confusion counts [1, speakers, C, C] from hits per speaker and emotion; misses go to the next emotion."""
    hit = np.array(hits)
    classes = hit.shape[1]
    counts = np.zeros((1, len(hit), classes, classes), int)
    for emotion in range(classes):
        counts[0, :, emotion, emotion] = hit[:, emotion]
        counts[0, :, emotion, (emotion + 1) % classes] = takes - hit[:, emotion]
    return counts


def test_pooled_scores_equal_those_of_scikit_learn_and_audmetric(table_of):
    table = table_of({"S1": 0.3, "S2": 0.6})
    pooled = strategy_scores(table, "S1").pooled
    rows = table.rows[table.rows["strategy"] == "S1"]
    truth, prediction = rows["truth"].tolist(), rows["prediction"].tolist()
    report = classification_report(truth, prediction, output_dict=True)
    matrix = {"y_true": truth, "y_pred": prediction, "labels": EMOTIONS}

    assert 0.4 < pooled.uar.value < 0.9  # neither chance nor perfection
    assert (pooled.utterances, pooled.speakers) == (len(rows), 6)
    assert values_of(pooled) == pytest.approx(by_scikit_learn(rows))
    assert pooled.wa.value == pytest.approx(audmetric.accuracy(truth, prediction))
    assert pooled.uar.value == pytest.approx(audmetric.unweighted_average_recall(truth, prediction))
    assert pooled.macro_f1.value == pytest.approx(audmetric.unweighted_average_fscore(truth, prediction))
    recall = {emotion: estimate.value for emotion, estimate in pooled.recall.items()}
    assert recall == pytest.approx({emotion: report[emotion]["recall"] for emotion in EMOTIONS})
    assert pooled.confusion == confusion_matrix(**matrix).tolist()
    assert np.array(pooled.confusion_percent) == pytest.approx(100 * confusion_matrix(**matrix, normalize="true"))


def test_over_folds_is_what_scikit_learn_gives_fold_by_fold(table_of):
    table = table_of({"S1": 0.3})
    result = strategy_scores(table, "S1")
    folds = [by_scikit_learn(rows) for _, rows in table.rows.groupby("fold")]
    assert (result.folds, result.seeds) == ([1, 2, 3], [0])
    for name in SCORES:
        values = [fold[name] for fold in folds]
        spread = result.over_folds[name]
        assert spread.values == pytest.approx(values)
        assert spread.mean == pytest.approx(statistics.mean(values))
        assert (spread.minimum, spread.maximum) == pytest.approx((min(values), max(values)))
        assert spread.standard_deviation == pytest.approx(statistics.stdev(values))
        assert result.over_seeds[name].standard_deviation is None


def test_with_several_seeds_every_score_is_the_mean_over_them(table_of):
    table = table_of({"S1": 0.3}, seeds=3)
    result = strategy_scores(table, "S1")
    by_seed = [by_scikit_learn(rows) for _, rows in table.rows.groupby("seed")]
    means = {name: statistics.mean(seed[name] for seed in by_seed) for name in SCORES}
    assert values_of(result.pooled) == pytest.approx(means)
    assert result.pooled.utterances == len(table.rows) / 3
    for name in SCORES:
        assert result.over_seeds[name].values == pytest.approx([seed[name] for seed in by_seed])
        folds = [
            statistics.mean(by_scikit_learn(rows)[name] for _, rows in fold.groupby("seed"))
            for _, fold in table.rows.groupby("fold")
        ]
        assert result.over_folds[name].values == pytest.approx(folds)
    assert np.sum(result.pooled.confusion) == len(table.rows)


def test_scores_by_hand_when_the_truth_lacks_an_emotion():
    # neutral: 2 of 3 right, one taken for sad, which does not occur; happy: 1 of 1. F1: 4/5 and 1.
    counts = np.array([[2, 0, 1], [0, 1, 0], [0, 0, 0]])
    assert score_confusions(counts) == pytest.approx([3 / 4, 5 / 6, 9 / 10, 2 / 3, 1, np.nan], nan_ok=True)
    pooled = pooled_scores(np.array([[counts, counts]]), EMOTIONS)
    assert pooled.recall["sad"] == Estimate(None, None, None)
    assert pooled.uar.value == pytest.approx(5 / 6)
    assert pooled.confusion_percent[2] == [0, 0, 0]


def test_many_confusions_are_scored_as_each_of_them(rng):
    counts = rng.integers(1, 9, size=(2, 4, 3, 3))
    scores = score_confusions(counts)
    assert scores.shape == (2, 4, 6)
    assert scores[1, 2] == pytest.approx(score_confusions(counts[1, 2]))


def test_the_interval_of_three_speakers_by_hand():
    # Of the 27 equally likely draws of three speakers one holds the worst speaker alone and one the best: 3.7 % each,
    # more than the 2.5 % that the interval leaves out at an end. Recalls 2/10 and 4/10; 5/10 and 7/10; 8/10 and 10/10.
    pooled = pooled_scores(counts_of([[2, 4], [5, 7], [8, 10]], takes=10), EMOTIONS[:2])
    ends = {"uar": (0.3, 0.9), "wa": (0.3, 0.9)}
    for name, (low, high) in ends.items():
        estimate = getattr(pooled, name)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.6, low, high))
    assert asdict(pooled.recall["neutral"]) == pytest.approx({"value": 0.5, "low": 0.2, "high": 0.8})


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_interval_equals_a_loop_that_draws_speakers(table_of, rng, seeds):
    table = table_of({"S1": 0.3}, seeds=seeds, speakers=12)
    answers = [
        [(rows["truth"].cat.codes.to_numpy(), (rows["truth"] == rows["prediction"]).to_numpy()) for _, rows in own]
        for own in (speaker.groupby("seed") for _, speaker in table.rows.groupby("speaker"))
    ]
    draws = []
    for _ in range(2000):
        drawn = [answers[index] for index in rng.integers(0, 12, size=12)]
        uars = []
        for seed in range(seeds):
            truth, hit = (np.concatenate(parts) for parts in zip(*(one[seed] for one in drawn), strict=True))
            uars.append(np.mean([hit[truth == emotion].mean() for emotion in range(3)]))
        draws.append(np.mean(uars))
    low, high = np.quantile(draws, (0.025, 0.975))
    estimate = strategy_scores(table, "S1").pooled.uar
    # Of 2000 draws, sqrt(2000 * 0.025 * 0.975) = 7 more or fewer lie below the 2.5 % quantile: where the normal density
    # is 0.058, that is 0.06 of a deviation, or 0.015 of the interval's 3.92 deviations. Four of these.
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_more_utterances_of_the_same_kind_do_not_narrow_the_interval():
    counts = counts_of([[2, 4], [5, 7], [8, 10], [6, 6]], takes=10)
    once, ten_times = (pooled_scores(factor * counts, EMOTIONS[:2]) for factor in (1, 10))
    assert asdict(once.uar) == pytest.approx(asdict(ten_times.uar))


def test_more_speakers_narrow_the_interval():
    counts = counts_of([[2, 4], [5, 7], [8, 10], [6, 6]], takes=10)
    few, many = (pooled_scores(np.tile(counts, (1, times, 1, 1)), EMOTIONS[:2]).uar for times in (1, 9))
    # Nine times the speakers: a third of the width.
    assert (many.high - many.low) / (few.high - few.low) == pytest.approx(1 / 3, rel=0.15)


def test_a_speaker_tested_twice_is_resampled_as_one(table_of):
    table = table_of({"S1": 0.3})
    again = table.rows[table.rows["speaker"] == "ravdess:01"].assign(fold=3)
    both = pd.concat([table.rows, again])
    as_published = strategy_scores(replace(table, rows=both), "S1").pooled
    assert (as_published.speakers, as_published.utterances) == (6, len(both))
    # The same as if all those utterances had stood in one fold.
    renamed = again.assign(fold=1, utterance=[f"{name}-again" for name in again["utterance"]])
    assert as_published == strategy_scores(replace(table, rows=pd.concat([table.rows, renamed])), "S1").pooled


def test_the_order_of_the_rows_does_not_matter(table_of):
    table = table_of({"S1": 0.3}, seeds=2)
    shuffled = replace(table, rows=table.rows.sample(frac=1, random_state=1))
    assert strategy_scores(shuffled, "S1") == strategy_scores(table, "S1")


def test_an_emotion_that_a_resample_may_lack_has_no_interval():
    # Of three speakers only the first speaks the second emotion; 8 of 27 draws leave that one out.
    counts = np.array([[[[3, 1], [1, 3]], [[4, 0], [0, 0]], [[2, 2], [0, 0]]]])
    recall = pooled_scores(counts, EMOTIONS[:2]).recall
    assert recall["happy"] == Estimate(0.75, None, None)
    assert recall["neutral"].low == 0.5


def sentence_of(table: PredictionTable) -> str:
    return strategy_scores(table, "S1").sentence


def certain(table: PredictionTable, speakers: int) -> PredictionTable:
    """All utterances of the first speakers are right, those of the others are named neutral."""
    rows = table.rows.copy()
    right = rows["speaker"].isin([f"ravdess:{number:02d}" for number in range(1, speakers + 1)])
    rows["prediction"] = rows["truth"].where(right, "neutral")
    return replace(table, rows=rows)


def test_one_seed_is_about_the_trained_models(table_of):
    assert sentence_of(certain(table_of({"S1": 0}, speakers=10), 10)) == (
        "These trained models of S1 reach 100.0 % UAR (95 % interval 100.0 to 100.0 over 10 speakers; one seed; "
        "a claim about the strategy needs at least 3)."
    )


def test_a_sentence_names_the_start_of_the_networks(table_of):
    table = replace(table_of({"S1": 0}), starts={"S1": "random weights"})
    assert strategy_scores(table, "S1").start == "random weights"
    assert sentence_of(table).startswith("These trained models of S1 from random weights reach ")


def test_three_seeds_are_about_the_strategy_and_give_their_spread(table_of):
    table = certain(table_of({"S1": 0}, seeds=3, speakers=10), 10)
    rows = table.rows
    rows.loc[(rows["seed"] == 2).to_numpy(), "prediction"] = "neutral"
    # UAR 1, 1 and 1/3: mean 7/9 = 77.8 %, deviation (2/3) / sqrt(3) = 38.5 %.
    assert sentence_of(table) == (
        "S1 reaches 77.8 % UAR (95 % interval 77.8 to 77.8 over 10 speakers; "
        "3 seeds with a standard deviation of 38.5 points)."
    )


def test_the_interval_of_few_speakers_carries_a_warning(table_of):
    assert "100.0 to 100.0 over 9 speakers, too few to trust it; one seed" in sentence_of(
        certain(table_of({"S1": 0}, speakers=9), 9)
    )


def test_a_single_speaker_has_no_interval(table_of):
    table = table_of({"S1": 0.3}, speakers=1)
    uar = strategy_scores(table, "S1").pooled.uar
    assert uar == Estimate(uar.value, None, None)
    assert " % UAR (no interval from 1 speaker; one seed; " in sentence_of(table)


def test_a_spread_by_hand():
    # Deviations -2, 0, 2 of the mean 0.5 in tenths: 8 / 2 = 4, so 0.2.
    assert Spread.of(np.array([0.3, 0.5, 0.7])) == Spread([0.3, 0.5, 0.7], 0.5, 0.3, 0.7, pytest.approx(0.2))
    assert Spread.of(np.array([0.5])) == Spread([0.5], 0.5, 0.5, 0.5, None)
