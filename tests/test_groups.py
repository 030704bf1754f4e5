from dataclasses import replace

import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from ser_tf.corpora.demographics import Demographics, demographics_of
from ser_tf.statistics.groups import exclusion_effect, group_scores
from ser_tf.statistics.scores import strategy_scores

NOBODY = Demographics({}, {}, ("nothing is known",))
LISTED = "03-01-03-01-02-02-07"
"""On the exclusion list of RAVDESS."""


def by_scikit_learn(rows) -> tuple[float, float]:
    return (
        accuracy_score(rows["truth"], rows["prediction"]),
        balanced_accuracy_score(rows["truth"], rows["prediction"]),
    )


def test_every_speaker_is_scored_and_the_worst_is_named(table_of):
    table = table_of({"S1": 0.3, "S2": 0.9}, speakers=8)
    result = group_scores(table, "S1", NOBODY)
    rows = table.rows[table.rows["strategy"] == "S1"]
    expected = {speaker: by_scikit_learn(own) for speaker, own in rows.groupby("speaker")}
    assert {name: (one.wa, one.uar) for name, one in result.by_speaker.items()} == {
        name: pytest.approx(scores) for name, scores in expected.items()
    }
    assert {name: one.utterances for name, one in result.by_speaker.items()} == rows["speaker"].value_counts().to_dict()
    worst = min(expected, key=lambda name: expected[name][1])
    assert worst != min(expected, key=lambda name: expected[name][0])  # by WA it would be a different one
    assert result.worst_speaker == worst
    assert result.sentence == (
        f"S1 has the lowest UAR on {worst}: {100 * expected[worst][1]:.1f} % over "
        f"{(rows['speaker'] == worst).sum()} utterances."
    )


def test_a_speaker_has_the_mean_over_the_seeds(table_of):
    table = table_of({"S1": 0.3}, seeds=2)
    one = group_scores(table, "S1", NOBODY).by_speaker["ravdess:02"]
    rows = table.rows[table.rows["speaker"] == "ravdess:02"]
    was, uars = zip(*(by_scikit_learn(own) for _, own in rows.groupby("seed")), strict=True)
    assert (one.wa, one.uar) == pytest.approx((sum(was) / 2, sum(uars) / 2))
    assert one.utterances == len(rows) / 2


def test_of_equally_bad_speakers_the_first_is_named(table_of):
    table = table_of({"S1": 0.3})
    rows = table.rows.assign(prediction=table.rows["truth"])
    assert group_scores(replace(table, rows=rows), "S1", NOBODY).worst_speaker == "ravdess:01"


def test_women_and_men_are_pooled_separately(table_of):
    table = table_of({"S1": 0.3}, speakers=7)
    speakers = sorted(table.rows["speaker"].unique())
    result = group_scores(table, "S1", demographics_of(speakers))
    assert result.sex.keys() == {"female", "male"}
    for sex, remainder in (("female", 0), ("male", 1)):
        chosen = table.rows["speaker"].str[-2:].astype(int) % 2 == remainder
        assert (result.sex[sex].wa.value, result.sex[sex].uar.value) == pytest.approx(
            by_scikit_learn(table.rows[chosen])
        )
        assert result.sex[sex] == strategy_scores(table.select(chosen), "S1").pooled
    assert result.age_group == {}
    assert result.notes == ["no groups of age: RAVDESS does not publish them by speaker"]


def test_a_speaker_of_unknown_age_is_in_no_group(table_of):
    ages = {"ravdess:01": "20-29", "ravdess:02": "20-29", "ravdess:03": "60 and over", "ravdess:99": "30-39"}
    result = group_scores(table_of({"S1": 0.3}), "S1", Demographics({}, ages, ()))
    assert {group: scores.speakers for group, scores in result.age_group.items()} == {"20-29": 2, "60 and over": 1}
    assert result.age_group["60 and over"].uar.low is None  # a single speaker has no interval


def test_missing_demographics_are_noted(table_of):
    result = group_scores(table_of({"S1": 0.3}), "S1", NOBODY)
    assert (result.sex, result.age_group, result.notes) == ({}, {}, ["nothing is known"])


def test_scores_with_and_without_listed_recordings(table_of):
    table = table_of({"S1": 0.3}, seeds=2)
    rows = table.rows.replace({"utterance": {"take-5": LISTED}})
    table = replace(table, rows=rows)
    effect = exclusion_effect(table, "S1")
    assert effect.tested == {LISTED: "the same recording as 03-01-03-01-02-01-07, which is kept"}
    assert effect.with_them == strategy_scores(table, "S1").pooled
    assert effect.without_them == strategy_scores(table.select(rows["utterance"] != LISTED), "S1").pooled
    assert effect.with_them.utterances == effect.without_them.utterances + 1
    with_them, without_them = (100 * scores.uar.value for scores in (effect.with_them, effect.without_them))
    assert effect.sentence == (
        f"S1: {with_them:.1f} % UAR with the recordings on the exclusion list (1 tested), "
        f"{without_them:.1f} % without them."
    )


def test_runs_without_listed_recordings_say_so(table_of):
    effect = exclusion_effect(table_of({"S1": 0.3}), "S1")
    assert effect.tested == {}
    assert effect.with_them == effect.without_them
    assert effect.sentence == "S1: the runs tested no recording on the exclusion list."
