"""Statistics of a noise measurement: UAR in each condition, loss through noise, and whether ghosts reduce the loss.

A loss is the score without noise minus the score with noise, of the same utterances. Intervals resample speakers, the
same for all strategies, so that intervals of differences are paired.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd

from ser_tf.errors import UserError
from ser_tf.statistics.noise_folder import CONDITION_COLUMNS, CONDITIONS, DESCRIPTORS, PORTIONS, Condition, NoiseFolder
from ser_tf.statistics.scores import (
    FEW_SPEAKERS,
    SEEDS_FOR_A_CLAIM,
    Estimate,
    estimates,
    interval_in_words,
    points,
    value_and_interval,
)

NOISY = CONDITIONS[1:]
COUNTS = ("utterances", "correct", "clean_correct", "both_halves")
NEAR_CHANCE = 0.05
SHARES = ("ghost_share", "ghost_share_noisy", "ghost_share_clean")


@dataclass(frozen=True)
class StrategyNoise:
    """Scores of one strategy; each is the mean over seeds."""

    strategy: str
    ghost_clusters: int
    seeds: list[int]
    uar: list[Estimate]
    """For each of `conditions`."""
    loss: list[Estimate]
    """UAR without noise minus UAR with noise, for each of `conditions` but the first."""
    portion_loss: dict[str, Estimate]
    """Portion -> mean loss over noises and ratios."""
    descriptor_loss: dict[str, dict[str, Estimate]]
    """Portion -> descriptors of the noisy utterance -> loss of accuracy, over all noises and ratios."""
    ghost_share: list[float] | None
    """For each of `conditions`, mean over utterances; None without ghosts."""
    ghost_share_noisy_half: float | None
    """With noise over half: mean over the descriptors whose frames are all in the noisy half, all noises and ratios."""
    ghost_share_clean_half: float | None
    """The same for the clean half."""


@dataclass(frozen=True)
class GhostComparison:
    """Loss of a strategy with ghosts minus loss of one without."""

    with_ghosts: str
    without_ghosts: str
    loss_difference: list[Estimate]
    """For each of `conditions` but the first."""
    portion_loss_difference: dict[str, Estimate]
    descriptor_loss_difference: dict[str, dict[str, Estimate]]
    sentence: str


@dataclass(frozen=True)
class NoiseSummary:
    """The numbers of a measurement; `dataclasses.asdict` turns it into JSON values."""

    conditions: list[Condition]
    folds: list[int]
    speakers: int
    chance: float
    """UAR of guessing."""
    utterances: int
    """Number per seed and condition; an utterance tested in two folds counts twice."""
    mixtures: dict[str, dict[str, int]]
    """Portion -> descriptors of the noisy utterance -> utterances per seed, over all noises and ratios."""
    strategies: dict[str, StrategyNoise]
    comparisons: list[GhostComparison]


@dataclass(frozen=True)
class _Counts:
    """Numbers of utterances and of correct answers, float [speakers, seeds, ...].

    Attributes:
        spoken: utterances [..., conditions, C].
        correct: correct answers, of the same shape.
        mixtures: noisy utterances [..., portions, descriptors].
        mixtures_correct: correct answers to them.
        mixtures_clean_correct: correct answers to the same utterances without noise.
    """

    spoken: np.ndarray
    correct: np.ndarray
    mixtures: np.ndarray
    mixtures_correct: np.ndarray
    mixtures_clean_correct: np.ndarray

    def uar(self, times_drawn: np.ndarray) -> np.ndarray:
        """UAR, float [B, conditions], from how often each speaker is drawn, float [B, speakers]."""
        recall = _shares(_drawn(times_drawn, self.correct), _drawn(times_drawn, self.spoken))
        return np.nanmean(recall, axis=-1).mean(axis=1)

    def loss_by_descriptors(self, times_drawn: np.ndarray) -> np.ndarray:
        """Loss of accuracy, float [B, portions * descriptors]."""
        lost = _drawn(times_drawn, self.mixtures_clean_correct - self.mixtures_correct)
        loss = _shares(lost, _drawn(times_drawn, self.mixtures)).mean(axis=1)
        return loss.reshape(len(loss), -1)


def summarise_noise(folder: NoiseFolder) -> NoiseSummary:
    """Compute the statistics of a measurement, over the runs that it has finished.

    Raises:
        UserError: its files are missing or damaged.
    """
    about = folder.read_about()
    rows = _typed(folder)
    ghosts = {run["strategy"]: int(run["ghost_clusters"]) for run in about["runs"].values()}
    strategies = sorted(ghosts)
    speakers = sorted(rows["speaker"].unique())
    counts = {
        name: _counts(rows[rows["strategy"] == name], speakers, about["settings"]["emotions"]) for name in strategies
    }
    with_ghosts = [name for name in strategies if ghosts[name]]
    pairs = [(first, second) for first in with_ghosts for second in strategies if not ghosts[second]]
    of_portion = np.array([[one.portion == portion for portion in PORTIONS] for one in NOISY]) / (len(NOISY) / 2)

    def score(times_drawn: np.ndarray) -> np.ndarray:
        """The columns that are read below, in the same order."""
        uar = {name: counts[name].uar(times_drawn) for name in strategies}
        loss = {name: uar[name][:, :1] - uar[name][:, 1:] for name in strategies}
        descriptors = {name: counts[name].loss_by_descriptors(times_drawn) for name in strategies}
        columns = []
        for name in strategies:
            columns += [uar[name], loss[name], loss[name] @ of_portion, descriptors[name]]
        for first, second in pairs:
            difference = loss[first] - loss[second]
            columns += [difference, difference @ of_portion, descriptors[first] - descriptors[second]]
        return np.concatenate(columns, axis=1)

    values = iter(estimates(score, speakers=len(speakers)))
    found = {}
    for name in strategies:
        own = rows[rows["strategy"] == name]
        in_both = own[own["both_halves"] > 0]
        found[name] = StrategyNoise(
            strategy=name,
            ghost_clusters=ghosts[name],
            seeds=sorted(own["seed"].unique().tolist()),
            uar=list(islice(values, len(CONDITIONS))),
            loss=list(islice(values, len(NOISY))),
            portion_loss=_by_portion(values),
            descriptor_loss=_by_descriptors(values),
            ghost_share=[_mean_share(part, "ghost_share") for part in _by_condition(own)] if ghosts[name] else None,
            ghost_share_noisy_half=None if in_both.empty else _mean_share(in_both, "ghost_share_noisy", "both_halves"),
            ghost_share_clean_half=None if in_both.empty else _mean_share(in_both, "ghost_share_clean", "both_halves"),
        )
    comparisons = []
    for first, second in pairs:
        loss_difference = list(islice(values, len(NOISY)))
        by_portion = _by_portion(values)
        sentence = _sentence(found[first], found[second], by_portion, len(speakers))
        comparisons.append(
            GhostComparison(first, second, loss_difference, by_portion, _by_descriptors(values), sentence)
        )
    any_counts = counts[strategies[0]]
    mixtures = any_counts.mixtures[:, 0].sum(axis=0).astype(int).tolist()
    return NoiseSummary(
        conditions=list(CONDITIONS),
        folds=sorted(rows["fold"].unique().tolist()),
        speakers=len(speakers),
        chance=1 / len(about["settings"]["emotions"]),
        utterances=int(any_counts.spoken[:, 0, 0].sum()),
        mixtures={
            portion: dict(zip(DESCRIPTORS, row, strict=True)) for portion, row in zip(PORTIONS, mixtures, strict=True)
        },
        strategies=found,
        comparisons=comparisons,
    )


def noise_text(summary: NoiseSummary) -> str:
    """The summary as tables for a terminal, with a sentence per comparison."""
    return "\n".join(
        [
            f"UAR in percent with 95 % intervals from resampling speakers ({summary.speakers}), and its loss through "
            f"noise; {summary.utterances} utterances in each row",
            *_condition_lines(summary),
            "",
            "loss of UAR, mean over noises and ratios",
            *_portion_lines(summary),
            "",
            "loss of accuracy by the number of descriptors M of the noisy utterance, over all noises and ratios",
            *_descriptor_lines(summary),
            "",
            near_chance(summary),
            *shares_of_halves(summary),
            *verdicts(summary),
        ]
    )


def verdicts(summary: NoiseSummary) -> list[str]:
    """Whether ghosts absorb noise, a sentence per comparison; or which runs a comparison needs."""
    sentences = [one.sentence for one in summary.comparisons]
    return sentences or ["To measure the effect of ghosts, give runs with and without them, such as S3 and S1."]


def near_chance(summary: NoiseSummary) -> str:
    """In how many conditions the UAR is too low for the loss to measure robustness."""
    noisy = range(1, len(summary.conditions))
    lowest = [min(one.uar[place].value or 0.0 for one in summary.strategies.values()) for place in noisy]
    near = sum(uar < summary.chance + NEAR_CHANCE for uar in lowest)
    return (
        f"In {near} of {len(noisy)} conditions a UAR is less than {points(NEAR_CHANCE)} points above chance "
        f"({points(summary.chance)}); there the loss reflects the score without noise, not robustness."
    )


def shares_of_halves(summary: NoiseSummary) -> list[str]:
    """Ghost share of the noisy and of the clean half, a sentence per strategy with ghosts."""
    return [
        f"Ghost share of {one.strategy} with noise over half: {one.ghost_share_noisy_half:.3f} of the descriptors in "
        f"the noisy half, {one.ghost_share_clean_half:.3f} in the clean half; a descriptor covers about 2 s, which "
        "blurs the difference."
        for one in summary.strategies.values()
        if one.ghost_share_noisy_half is not None
    ]


def _condition_lines(summary: NoiseSummary) -> Iterator[str]:
    strategies = summary.strategies.values()
    with_ghosts = [(one.strategy, one.ghost_share) for one in strategies if one.ghost_share is not None]
    heading = [f"{'noise':<6} {'over':<5} {'SNR':>5}"]
    heading += [f"{f'{one.strategy} (G = {one.ghost_clusters})':<20} {'loss':>5}" for one in strategies]
    heading += [f"{f'{one.with_ghosts} - {one.without_ghosts} in loss':<20}" for one in summary.comparisons]
    heading += [f"ghost share {name}" for name, _ in with_ghosts]
    yield "  ".join(heading)
    for place, condition in enumerate(summary.conditions):
        snr = "" if condition.snr_db is None else f"{condition.snr_db} dB"
        cells = [f"{condition.noise:<6} {condition.portion:<5} {snr:>5}"]
        for one in strategies:
            loss = points(one.loss[place - 1].value or 0.0) if place else ""
            cells.append(f"{value_and_interval(one.uar[place]):<20} {loss:>5}")
        cells += [
            f"{value_and_interval(one.loss_difference[place - 1]) if place else '':<20}" for one in summary.comparisons
        ]
        cells += [f"{shares[place]:.3f}" for _, shares in with_ghosts]
        yield "  ".join(cells).rstrip()


def _portion_lines(summary: NoiseSummary) -> Iterator[str]:
    for portion in PORTIONS:
        losses = {name: one.portion_loss[portion] for name, one in summary.strategies.items()}
        differences = [one.portion_loss_difference[portion] for one in summary.comparisons]
        yield f"  {portion:<5}  {_losses(summary, losses, differences)}"


def _descriptor_lines(summary: NoiseSummary) -> Iterator[str]:
    for portion, descriptors in product(PORTIONS, DESCRIPTORS):
        losses = {name: one.descriptor_loss[portion][descriptors] for name, one in summary.strategies.items()}
        differences = [one.descriptor_loss_difference[portion][descriptors] for one in summary.comparisons]
        mixtures = summary.mixtures[portion][descriptors]
        cells = _losses(summary, losses, differences) if mixtures else ""
        yield f"  {portion:<5}  M = {descriptors:<2} {mixtures:>7} utterances  {cells}".rstrip()


def _losses(summary: NoiseSummary, losses: Mapping[str, Estimate], differences: Sequence[Estimate]) -> str:
    cells = [f"{name} {value_and_interval(loss)}" for name, loss in losses.items()]
    for one, difference in zip(summary.comparisons, differences, strict=True):
        cells.append(f"{one.with_ghosts} - {one.without_ghosts} {value_and_interval(difference)}")
    return "  ".join(cells)


def _typed(folder: NoiseFolder) -> pd.DataFrame:
    """The rows with numbers in place of text, and the index of their condition.

    Raises:
        UserError: `noise.csv` is damaged.
    """
    rows = folder.read_rows()
    places = {
        (one.noise, one.portion, "" if one.snr_db is None else str(one.snr_db)): place
        for place, one in enumerate(CONDITIONS)
    }
    try:
        keys = zip(*(rows[column] for column in CONDITION_COLUMNS), strict=True)
        numbers = {name: pd.to_numeric(rows[name]) for name in (*COUNTS, *SHARES)}
        whole = {name: rows[name].astype(int) for name in ("fold", "seed")}
        return rows.assign(condition=[places[key] for key in keys], **numbers, **whole)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{folder.table}: expected conditions and numbers. Received: {error}; restore the file, or remove the "
            "folder and measure again"
        ) from error


def _counts(rows: pd.DataFrame, speakers: Sequence[str], emotions: Sequence[str]) -> _Counts:
    seeds = sorted(rows["seed"].unique())
    noisy = rows[rows["condition"] > 0]

    def summed(part: pd.DataFrame, column: str, **places: Sequence[Any]) -> np.ndarray:
        names: dict[str, Sequence[Any]] = {"speaker": speakers, "seed": seeds, **places}
        index = tuple(pd.Index(values).get_indexer(pd.Index(part[name])) for name, values in names.items())
        total = np.zeros([len(values) for values in names.values()])
        np.add.at(total, index, part[column].to_numpy())
        return total

    by_emotion: dict[str, Sequence[Any]] = {"condition": range(len(CONDITIONS)), "emotion": emotions}
    by_descriptors: dict[str, Sequence[Any]] = {"portion": PORTIONS, "descriptors": DESCRIPTORS}
    return _Counts(
        spoken=summed(rows, "utterances", **by_emotion),
        correct=summed(rows, "correct", **by_emotion),
        mixtures=summed(noisy, "utterances", **by_descriptors),
        mixtures_correct=summed(noisy, "correct", **by_descriptors),
        mixtures_clean_correct=summed(noisy, "clean_correct", **by_descriptors),
    )


def _drawn(times_drawn: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.tensordot(times_drawn, counts, axes=1)


def _shares(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Quotients; NaN if the whole is 0."""
    return np.divide(parts, wholes, out=np.full(parts.shape, np.nan), where=wholes > 0)


def _by_condition(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    return (rows[rows["condition"] == place] for place in range(len(CONDITIONS)))


def _by_portion(values: Iterator[Estimate]) -> dict[str, Estimate]:
    return {portion: next(values) for portion in PORTIONS}


def _by_descriptors(values: Iterator[Estimate]) -> dict[str, dict[str, Estimate]]:
    return {portion: {descriptors: next(values) for descriptors in DESCRIPTORS} for portion in PORTIONS}


def _mean_share(rows: pd.DataFrame, share: str, weight: str = "utterances") -> float:
    return float(np.average(rows[share], weights=rows[weight]))


def _sentence(first: StrategyNoise, second: StrategyNoise, by_portion: dict[str, Estimate], speakers: int) -> str:
    """Whether the ghosts of the first absorb noise. Noise over half decides, since ghosts can act only there.

    With few speakers the interval is too narrow, so the verdict stays open.
    """
    half, whole = by_portion["half"], by_portion["whole"]
    seeds = min(len(first.seeds), len(second.seeds))
    claim = seeds >= SEEDS_FOR_A_CLAIM
    verdict = "do not show"
    if speakers >= FEW_SPEAKERS and half.low is not None and half.high is not None:
        verdict = "agree with the claim" if half.high < 0 else "contradict the claim" if half.low > 0 else verdict
    whom = "the strategies" if claim else "these trained models"
    plural = "s" * (seeds != 1)
    caution = "" if claim else f"; {seeds} seed{plural}, and a claim about strategies needs {SEEDS_FOR_A_CLAIM}"
    return (
        f"Noise over half of the utterance costs {first.strategy} (G = {first.ghost_clusters}) {_more(half)} than "
        f"{second.strategy} (G = 0), mean over noises and ratios ({interval_in_words(half, speakers)}), and over the "
        f"whole {_more(whole)} ({interval_in_words(whole, speakers)}): {whom} {verdict} that ghosts absorb noise"
        f"{caution}."
    )


def _more(difference: Estimate) -> str:
    value = difference.value or 0.0
    return f"{points(abs(value))} points of UAR {'less' if value < 0 else 'more'}"
