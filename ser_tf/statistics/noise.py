"""What a noise measurement says: UAR in each condition, what noise costs a strategy, and whether ghosts lower the cost.

A loss is the score without noise minus the score with it, of the same utterances. Speakers are resampled, and all
strategies of a resample have the same speakers, so that intervals of differences are paired.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd

from ser_tf.errors import UserError
from ser_tf.statistics.noise_folder import CONDITIONS, DESCRIPTORS, NOISE, PORTIONS, Condition, NoiseFolder
from ser_tf.statistics.scores import (
    FEW_SPEAKERS,
    SEEDS_FOR_A_CLAIM,
    Estimate,
    estimates,
    interval_in_words,
    points,
)

NOISY = CONDITIONS[1:]
COUNTS = ("utterances", "correct", "clean_correct", "both_halves")
NEAR_CHANCE = 0.05
SHARES = ("ghost_share", "ghost_share_noisy", "ghost_share_clean")


@dataclass(frozen=True)
class StrategyNoise:
    """How one strategy hears; scores are means over the seeds."""

    strategy: str
    ghost_clusters: int
    seeds: list[int]
    uar: list[Estimate]
    """Of each of `conditions`."""
    loss: list[Estimate]
    """UAR without noise minus UAR with it, of each of `conditions` but the first."""
    portion_loss: dict[str, Estimate]
    """Mean loss over noises and ratios, with noise over the whole and over half."""
    descriptor_loss: dict[str, dict[str, Estimate]]
    """Portion -> descriptors of the noisy utterance -> loss of accuracy, over all noises and ratios."""
    ghost_share: list[float] | None
    """Of each of `conditions`, mean over utterances; None without ghosts."""
    ghost_share_noisy_half: float | None
    """With noise over half: of the descriptors whose own frames are in the noisy half; over all noises and ratios."""
    ghost_share_clean_half: float | None


@dataclass(frozen=True)
class GhostComparison:
    """What a strategy with ghosts loses, minus what one without them loses."""

    with_ghosts: str
    without_ghosts: str
    loss_difference: list[Estimate]
    """Of each of `conditions` but the first."""
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
    """Of each seed, in each condition; one that is tested in two folds counts twice."""
    mixtures: dict[str, dict[str, int]]
    """Portion -> descriptors of the noisy utterance -> utterances of each seed, over all noises and ratios."""
    strategies: dict[str, StrategyNoise]
    comparisons: list[GhostComparison]


@dataclass(frozen=True)
class _Counts:
    """Float [speakers, seeds, ...]; the number of utterances, and of those that are named rightly.

    Attributes:
        spoken: [..., conditions, C].
        correct: the same.
        mixtures: [..., portions, descriptors].
        mixtures_correct: the same.
        mixtures_clean_correct: the same; how many of them are named rightly without the noise.
    """

    spoken: np.ndarray
    correct: np.ndarray
    mixtures: np.ndarray
    mixtures_correct: np.ndarray
    mixtures_clean_correct: np.ndarray

    def uar(self, times_drawn: np.ndarray) -> np.ndarray:
        """Of each condition, float [B, conditions], from how often each speaker is drawn, float [B, speakers]."""
        recall = _shares(_drawn(times_drawn, self.correct), _drawn(times_drawn, self.spoken))
        return np.nanmean(recall, axis=-1).mean(axis=1)

    def loss_by_descriptors(self, times_drawn: np.ndarray) -> np.ndarray:
        """Of accuracy, float [B, portions * descriptors]."""
        lost = _drawn(times_drawn, self.mixtures_clean_correct - self.mixtures_correct)
        loss = _shares(lost, _drawn(times_drawn, self.mixtures)).mean(axis=1)
        return loss.reshape(len(loss), -1)


def summarise_noise(folder: NoiseFolder) -> NoiseSummary:
    """The statistics of a finished measurement.

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
        """The columns that are taken up below, in the same order."""
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
        told = own[own["both_halves"] > 0]
        found[name] = StrategyNoise(
            strategy=name,
            ghost_clusters=ghosts[name],
            seeds=sorted(own["seed"].unique().tolist()),
            uar=list(islice(values, len(CONDITIONS))),
            loss=list(islice(values, len(NOISY))),
            portion_loss=_by_portion(values),
            descriptor_loss=_by_descriptors(values),
            ghost_share=[_mean_share(part, "ghost_share") for part in _by_condition(own)] if ghosts[name] else None,
            ghost_share_noisy_half=None if told.empty else _mean_share(told, "ghost_share_noisy", "both_halves"),
            ghost_share_clean_half=None if told.empty else _mean_share(told, "ghost_share_clean", "both_halves"),
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
    """The summary as tables for a terminal, and a sentence per comparison."""
    return "\n".join(
        [
            f"UAR in percent with 95 % intervals by resampling speakers ({summary.speakers}), and its loss against no "
            f"noise; {summary.utterances} utterances in each row",
            *_condition_lines(summary),
            "",
            "loss of UAR, mean over noises and ratios",
            *_portion_lines(summary),
            "",
            "loss of accuracy by the descriptors M of the noisy utterance, over all noises and ratios",
            *_descriptor_lines(summary),
            "",
            near_chance(summary),
            *shares_of_halves(summary),
            *verdicts(summary),
        ]
    )


def verdicts(summary: NoiseSummary) -> list[str]:
    """What ghosts are worth against noise, a sentence per comparison; or what it takes to tell."""
    told = [one.sentence for one in summary.comparisons]
    return told or ["What ghosts do can be told from runs with and runs without them, such as S3 and S1."]


def near_chance(summary: NoiseSummary) -> str:
    """In how many conditions a loss says little."""
    noisy = range(1, len(summary.conditions))
    lowest = [min(one.uar[place].value or 0.0 for one in summary.strategies.values()) for place in noisy]
    near = sum(uar < summary.chance + NEAR_CHANCE for uar in lowest)
    return (
        f"In {near} of {len(noisy)} conditions a UAR is less than {points(NEAR_CHANCE)} points above chance "
        f"({points(summary.chance)}); there a loss tells how good a model was without noise, not how it bears it."
    )


def shares_of_halves(summary: NoiseSummary) -> list[str]:
    """What ghosts take of the noisy and of the clean half, a sentence per strategy with ghosts."""
    return [
        f"Ghost share of {one.strategy} with noise over half: {one.ghost_share_noisy_half:.3f} of the descriptors in "
        f"the noisy half, {one.ghost_share_clean_half:.3f} in the clean one; each sees about 2 s, so that the two are "
        "blurred."
        for one in summary.strategies.values()
        if one.ghost_share_noisy_half is not None
    ]


def _condition_lines(summary: NoiseSummary) -> Iterator[str]:
    strategies = summary.strategies.values()
    haunted = [(one.strategy, one.ghost_share) for one in strategies if one.ghost_share is not None]
    heading = [f"{'noise':<6} {'over':<5} {'SNR':>5}"]
    heading += [f"{f'{one.strategy} (G = {one.ghost_clusters})':<20} {'loss':>5}" for one in strategies]
    heading += [f"{f'{one.with_ghosts} - {one.without_ghosts} in loss':<20}" for one in summary.comparisons]
    heading += [f"ghost share {name}" for name, _ in haunted]
    yield "  ".join(heading)
    for place, condition in enumerate(summary.conditions):
        snr = "" if condition.snr_db is None else f"{condition.snr_db} dB"
        cells = [f"{condition.noise:<6} {condition.portion:<5} {snr:>5}"]
        for one in strategies:
            loss = points(one.loss[place - 1].value or 0.0) if place else ""
            cells.append(f"{_with_ends(one.uar[place]):<20} {loss:>5}")
        cells += [f"{_with_ends(one.loss_difference[place - 1]) if place else '':<20}" for one in summary.comparisons]
        cells += [f"{shares[place]:.3f}" for _, shares in haunted]
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
        told = _losses(summary, losses, differences) if mixtures else ""
        yield f"  {portion:<5}  M = {descriptors:<2} {mixtures:>7} utterances  {told}".rstrip()


def _losses(summary: NoiseSummary, losses: Mapping[str, Estimate], differences: Sequence[Estimate]) -> str:
    cells = [f"{name} {_with_ends(loss)}" for name, loss in losses.items()]
    for one, difference in zip(summary.comparisons, differences, strict=True):
        cells.append(f"{one.with_ghosts} - {one.without_ghosts} {_with_ends(difference)}")
    return "  ".join(cells)


def _typed(folder: NoiseFolder) -> pd.DataFrame:
    """The rows with numbers for text, and the place of their condition.

    Raises:
        UserError: `noise.csv` is damaged.
    """
    rows = folder.read_rows()
    places = {
        (one.noise, one.portion, "" if one.snr_db is None else str(one.snr_db)): place
        for place, one in enumerate(CONDITIONS)
    }
    try:
        keys = zip(*(rows[column] for column in NOISE), strict=True)
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
    """NaN where the whole is nothing."""
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
    """What the ghosts of the first are worth against noise; half of the utterance decides, where they could act.

    Of few speakers an interval is too narrow, and shows nothing.
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


def _with_ends(estimate: Estimate) -> str:
    """As in "51.6 [41.7, 57.8]"."""
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return points(estimate.value)
    return f"{points(estimate.value)} [{points(estimate.low)}, {points(estimate.high)}]"
