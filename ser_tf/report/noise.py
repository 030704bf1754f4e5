"""Robustness to noise; every number and verdict comes from `statistics.noise`."""

from collections.abc import Iterator, Mapping, Sequence

from ser_tf.report import figures
from ser_tf.report.document import Block, Figure, Notice, Panel, Paragraph, Section, Table
from ser_tf.report.figures import Interval
from ser_tf.report.sources import NoiseTest
from ser_tf.report.words import corpus_name, percent
from ser_tf.statistics.noise import NoiseSummary, StrategyNoise, near_chance, shares_of_halves, verdicts
from ser_tf.statistics.noise_folder import DESCRIPTORS, NOISES, PORTIONS, SNR_DB, Condition
from ser_tf.statistics.scores import FEW_SPEAKERS, value_and_interval

OVER = {"whole": "over the whole utterance", "half": "over half of the utterance"}
RATIOS = sorted(SNR_DB)


def noise(test: NoiseTest, number: int) -> Section:
    """Whether ghosts help against noise, what noise costs each network, and scores by signal-to-noise ratio."""
    summary = test.summary
    blocks: list[Block] = [
        *map(Paragraph, verdicts(summary)),
        Notice(near_chance(summary)),
        Paragraph(
            f"Measured: {', '.join(map(_with_seeds, summary.strategies.values()))}; {summary.utterances} utterances of "
            f"{summary.speakers} speakers in each condition, of folds {', '.join(map(str, summary.folds))}; noise is "
            "mixed into the waveform before silence removal. The paper says that ghost clusters absorb noisy segments. "
            "Ghosts act only through the relative weights of the descriptors of one utterance: noise over half of it "
            "leaves clean descriptors to prefer, noise over the whole reaches every descriptor."
        ),
        *_losses(summary),
    ]
    if not test.finished:
        remedy = "these results are incomplete. Run the same `ser-tf noise` command again."
        blocks.insert(0, Notice(f"`{test.folder}` is not finished, so {remedy}"))
    sections = [
        Section(f"Noise {OVER[portion]}", list(_by_ratio(summary, portion, f"noise-{number}-{portion}")))
        for portion in PORTIONS
    ]
    return Section(f"Robustness to noise, {corpus_name(test.corpus)}", blocks, sections)


def _with_ghosts(one: StrategyNoise) -> str:
    return f"{one.strategy} (G = {one.ghost_clusters})"


def _with_seeds(one: StrategyNoise) -> str:
    return f"{_with_ghosts(one)} with seed{'s' * (len(one.seeds) != 1)} {', '.join(map(str, one.seeds))}"


def _intervals(summary: NoiseSummary) -> str:
    few = ", too few to trust them" if summary.speakers < FEW_SPEAKERS else ""
    return f"95 % intervals from resampling {summary.speakers} speakers{few}"


def _losses(summary: NoiseSummary) -> Iterator[Table]:
    """Losses by portion, and by portion and number of descriptors."""
    strategies, comparisons = list(summary.strategies.values()), summary.comparisons
    columns = [*map(_with_ghosts, strategies), *(f"{one.with_ghosts} - {one.without_ghosts}" for one in comparisons)]
    yield Table(
        "Loss of UAR in points: without noise minus with noise, mean over noises and ratios, with "
        f"{_intervals(summary)}. Below 0, the network with ghosts loses less.",
        ["noise over", *columns],
        [
            [
                portion,
                *(value_and_interval(one.portion_loss[portion]) for one in strategies),
                *(value_and_interval(one.portion_loss_difference[portion]) for one in comparisons),
            ]
            for portion in PORTIONS
        ],
    )
    yield Table(
        "Loss of accuracy in points by the number of descriptors M of the noisy utterance: the same utterances without "
        f"noise minus with noise, over all noises and ratios, with {_intervals(summary)}, not corrected for the number "
        "of rows. With one descriptor, ghosts do not change the answer; but separately trained networks differ at any "
        "M.",
        ["noise over", "M", "mixtures", *columns],
        [
            [
                portion,
                count.replace("+", " and more"),
                str(summary.mixtures[portion][count]),
                *(value_and_interval(one.descriptor_loss[portion][count]) for one in strategies),
                *(value_and_interval(one.descriptor_loss_difference[portion][count]) for one in comparisons),
            ]
            for portion in PORTIONS
            for count in DESCRIPTORS
        ],
    )


def _by_ratio(summary: NoiseSummary, portion: str, stem: str) -> Iterator[Block]:
    uar = {name: [percent(one) for one in strategy.uar] for name, strategy in summary.strategies.items()}
    yield Figure(
        f"UAR with noise {OVER[portion]}; bars are {_intervals(summary)}. Near chance, networks cannot be "
        "distinguished.",
        list(_panels(summary, portion, f"{stem}-uar", "UAR, %", uar, 100 * summary.chance)),
        columns=3,
    )
    yield _uar_table(summary, portion)
    ghosts: dict[str, list[Interval]] = {
        name: [(100 * share, None, None) for share in one.ghost_share]
        for name, one in summary.strategies.items()
        if one.ghost_share is not None
    }
    if ghosts:
        yield Figure(
            "Share of each descriptor that ghost clusters take, mean over utterances. If ghosts absorb noise, the "
            "share is larger on the left, where noise is louder.",
            list(_panels(summary, portion, f"{stem}-ghosts", "ghost share, %", ghosts)),
            columns=3,
        )
    if portion == "half":
        yield from map(Paragraph, shares_of_halves(summary))


def _panels(
    summary: NoiseSummary,
    portion: str,
    stem: str,
    label: str,
    scores: Mapping[str, Sequence[Interval]],
    chance: float | None = None,
) -> Iterator[Panel]:
    """A panel per kind of noise; `scores` maps each strategy to its score in each condition."""
    looks = figures.looks_of(list(summary.strategies))
    clean = {name: of_all[0] for name, of_all in scores.items()}
    for kind in NOISES:
        places = _places(summary, kind, portion)
        lines = {
            name: {float(ratio): of_all[place] for ratio, place in zip(RATIOS, places, strict=True)}
            for name, of_all in scores.items()
        }
        numbers = "; ".join(
            f"{name} " + ", ".join(f"{ratio:g} dB {value:.1f}" for ratio, (value, _, _) in line.items())
            for name, line in lines.items()
        )
        drawing = figures.noise_curves(lines, clean, looks, label, f"{kind} noise", chance)
        yield Panel(f"{stem}-{kind}", f"{label[:-3]} in percent with {kind} noise: {numbers}.", drawing)


def _uar_table(summary: NoiseSummary, portion: str) -> Table:
    return Table(
        f"UAR in percent with noise {OVER[portion]}, with {_intervals(summary)}.",
        ["noise", "network", *(f"{ratio} dB" for ratio in RATIOS), "clean"],
        [
            [
                kind,
                _with_ghosts(one),
                *(value_and_interval(one.uar[place]) for place in (*_places(summary, kind, portion), 0)),
            ]
            for kind in NOISES
            for one in summary.strategies.values()
        ],
    )


def _places(summary: NoiseSummary, kind: str, portion: str) -> list[int]:
    """Indices of the conditions with this noise and portion, one per ratio."""
    return [summary.conditions.index(Condition(kind, portion, ratio)) for ratio in RATIOS]
