"""Scores by speaker, sex and age, and with and without the recordings on the exclusion list."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ser_tf.corpora.demographics import Demographics
from ser_tf.corpora.opening import exclusions_among
from ser_tf.statistics.scores import SCORES, PooledScores, points, pooled_scores, score_confusions
from ser_tf.statistics.table import PredictionTable


@dataclass(frozen=True)
class SpeakerScores:
    """Scores of one speaker; each is the mean over seeds."""

    utterances: int
    """Number per seed; an utterance tested in two folds counts twice."""
    wa: float
    uar: float


@dataclass(frozen=True)
class GroupScores:
    """Scores of a strategy by groups of speakers."""

    by_speaker: dict[str, SpeakerScores]
    worst_speaker: str
    """The speaker with the lowest UAR; of equals the first by name."""
    sex: dict[str, PooledScores]
    age_group: dict[str, PooledScores]
    sentence: str
    notes: list[str]
    """Which groups are missing, and why."""


@dataclass(frozen=True)
class ExclusionEffect:
    """Scores of the same runs with and without the test utterances on the exclusion list."""

    tested: dict[str, str]
    """Listed utterances that the runs tested -> why they are listed."""
    with_them: PooledScores
    without_them: PooledScores
    sentence: str


def group_scores(table: PredictionTable, strategy: str, demographics: Demographics) -> GroupScores:
    """Scores of a strategy by speaker, sex and age.

    Raises:
        UserError: its seeds were tested on different utterances.
    """
    counts, (_, speakers) = table.of(strategy).confusions("seed", "speaker")
    scores = score_confusions(counts).mean(axis=0)
    by_speaker = {
        speaker: SpeakerScores(
            utterances=int(counts[0, index].sum()),
            wa=float(scores[index, SCORES.index("wa")]),
            uar=float(scores[index, SCORES.index("uar")]),
        )
        for index, speaker in enumerate(speakers)
    }

    def by_group(group_of: Mapping[str, str]) -> dict[str, PooledScores]:
        groups = np.array([group_of.get(speaker, "") for speaker in speakers])
        return {group: pooled_scores(counts[:, groups == group], table.emotions) for group in sorted({*groups} - {""})}

    worst = min(by_speaker, key=lambda speaker: (by_speaker[speaker].uar, speaker))
    return GroupScores(
        by_speaker=by_speaker,
        worst_speaker=worst,
        sex=by_group(demographics.sex),
        age_group=by_group(demographics.age_group),
        sentence=f"{strategy} has the lowest UAR on {worst}: {points(by_speaker[worst].uar)} % over "
        f"{by_speaker[worst].utterances} utterances.",
        notes=list(demographics.notes),
    )


def exclusion_effect(table: PredictionTable, strategy: str) -> ExclusionEffect:
    """Scores of a strategy with and without the test utterances that are left out by default.

    Only runs trained with `keep_excluded` have tested them; such runs also trained on listed utterances.

    Raises:
        UserError: the strategy's seeds were tested on different utterances.
    """
    own = table.of(strategy)
    tested = {one.name: one.reason for one in exclusions_among(table.corpus, set(own.rows["utterance"]))}
    with_them = without_them = _pooled(own)
    sentence = f"{strategy}: the runs tested no recording on the exclusion list."
    if tested:
        without_them = _pooled(own.select(~own.rows["utterance"].isin(list(tested))))
        uars = [points(scores.uar.value or 0.0) for scores in (with_them, without_them)]
        sentence = (
            f"{strategy}: {uars[0]} % UAR with the recordings on the exclusion list ({len(tested)} tested), "
            f"{uars[1]} % without them."
        )
    return ExclusionEffect(tested, with_them, without_them, sentence)


def _pooled(table: PredictionTable) -> PooledScores:
    return pooled_scores(table.confusions("seed", "speaker")[0], table.emotions)
