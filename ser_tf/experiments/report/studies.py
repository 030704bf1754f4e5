"""Sweeps (figures 10 and 11) and robustness to noise."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from ser_tf.experiments.report import figures, paper
from ser_tf.experiments.report.document import Block, Figure, Notice, Panel, Section, Table
from ser_tf.experiments.report.figures import Interval, setting
from ser_tf.experiments.report.scores import CORPUS_NAMES, interval
from ser_tf.experiments.report.sources import NoiseTest, Sweep
from ser_tf.experiments.statistics import Estimate, estimates, points
from ser_tf.training.strategies import STRATEGIES

SCORE = "best_validation_uar"
PARAMETER_NAMES = {
    "network.clusters": "K, clusters",
    "network.ghost_clusters": "G, ghost clusters",
    "loss.alpha": "alpha",
    "loss.beta": "beta",
}
PAPERS_FIGURES = {
    ("network.clusters",): "Figure 10",
    ("network.ghost_clusters",): "Figure 10",
    ("loss.alpha", "loss.beta"): "Figure 11",
}
PORTIONS = {"whole": "over the whole utterance", "half": "over half of it"}


def sweep(one: Sweep, number: int) -> Section:
    """Validation UAR against the parameters of a sweep."""
    corpus = CORPUS_NAMES.get(one.corpus, one.corpus)
    names = [PARAMETER_NAMES.get(name, name) for name in one.parameters]
    which = PAPERS_FIGURES.get(one.parameters)
    folds, seeds = (sorted(one.rows[key].unique()) for key in ("fold", "seed"))
    means = one.rows.groupby(list(one.parameters))[SCORE].agg(["mean", "min", "max", "count"])
    best = means["mean"].idxmax()
    values = best if isinstance(best, tuple) else (best,)
    chosen = ", ".join(f"{name} {setting(value)}" for name, value in zip(names, values, strict=True))
    complete = len(set(means["count"])) == 1
    blocks: list[Block] = []
    if not complete:
        blocks.append(Notice("Not every setting has run on every fold and seed yet: the means are not comparable."))
    panels = list(_sweep_panels(one, names, number))
    if panels:
        blocks.append(
            Figure(
                f"{f'{which}: best' if which else 'Best'} UAR on the validation speakers of {corpus}, {one.scheme} "
                f"folds {', '.join(map(str, folds))}, seeds {', '.join(map(str, seeds))}; {one.strategy} from "
                f"{one.start}, {one.epochs} epochs. The highest mean is at {chosen}. See whether the settings differ "
                "by more than the folds do; a short fine-tune ranks settings for short fine-tunes.",
                panels,
            )
        )
    rows = [
        [*map(setting, at if isinstance(at, tuple) else (at,)), *map(points, row[:3]), f"{row[3]:.0f}"]
        for at, row in zip(means.index, means.to_numpy(), strict=True)
    ]
    blocks.append(
        Table(
            "UAR on validation speakers in percent, over folds and seeds. No test speaker took part.",
            [*names, "mean", "min", "max", "runs"],
            rows,
        )
    )
    return Section(f"Sweep over {' and '.join(names)}, {corpus}{f' ({which.lower()})' if which else ''}", blocks)


def _sweep_panels(one: Sweep, names: Sequence[str], number: int) -> Iterator[Panel]:
    stem = f"sweep-{number}-{one.corpus}-{'-'.join(name.rpartition('.')[2] for name in one.parameters)}"
    rows = one.rows.assign(**{SCORE: 100 * one.rows[SCORE]})
    if len(one.parameters) == 1:
        (parameter,) = one.parameters
        lines = {
            f"fold {fold}, seed {seed}": (group[parameter].tolist(), group[SCORE].tolist())
            for (fold, seed), group in rows.sort_values(parameter).groupby(["fold", "seed"])
        }
        told = ", ".join(
            f"{setting(value)}: {mean:.1f}" for value, mean in rows.groupby(parameter)[SCORE].mean().items()
        )
        drawing = figures.sweep_line(lines, names[0], paper.CHOSEN.get(parameter, np.nan))
        yield Panel(stem, f"Mean validation UAR in percent by {names[0]}: {told}.", drawing)
    elif len(one.parameters) == 2:
        means = rows.pivot_table(index=one.parameters[0], columns=one.parameters[1], values=SCORE)
        told = "; ".join(
            f"{names[0]} {setting(row)}: "
            + ", ".join(f"{setting(column)} {value:.1f}" for column, value in line.items())
            for row, line in means.iterrows()
        )
        chosen = tuple(paper.CHOSEN.get(name, np.nan) for name in one.parameters)
        drawing = figures.sweep_grid(
            means.to_numpy(), means.index.tolist(), means.columns.tolist(), (names[0], names[1]), chosen
        )
        yield Panel(stem, f"Mean validation UAR in percent by {' and '.join(names)}: {told}.", drawing)


def noise(test: NoiseTest, number: int) -> Section:
    """UAR and ghost share against the signal-to-noise ratio, all utterances and by number of descriptors."""
    rows = test.rows
    looks = figures.looks_of(sorted(rows["strategy"].unique()))
    speakers = rows["speaker"].nunique()
    sections = []
    for portion in sorted(rows.loc[rows["snr_db"].notna(), "portion"].unique(), reverse=True):
        here = rows[rows["snr_db"].isna() | (rows["portion"] == portion)]
        uar = list(_noise_panels(here, looks, f"noise-{number}-{portion}-uar", "UAR, %", _uar))
        haunted = here[here["ghost_share"].notna()]
        ghosts = list(_noise_panels(haunted, looks, f"noise-{number}-{portion}-ghosts", "ghost share, %", _ghost_share))
        blocks: list[Block] = [
            Figure(
                f"UAR with noise {PORTIONS.get(portion, portion)}, mixed into the waveform before silence removal; "
                f"bars are 95 % intervals by resampling {speakers} speakers. See whether the network with ghost "
                "clusters falls later than the one without; where intervals cover each other's dots, nothing is shown.",
                uar,
            ),
            _noise_table(here),
        ]
        if ghosts:
            caption = (
                "Share of each descriptor that the ghost clusters take: if ghosts absorb noise, it rises to the left."
            )
            blocks.append(Figure(caption, ghosts))
        if portion == "half":
            blocks += _halves(here)
        blocks += _by_descriptors(here, looks, f"noise-{number}-{portion}")
        sections.append(Section(f"Noise {PORTIONS.get(portion, portion)}", blocks))
    ghosts_of = {name: STRATEGIES[name].ghosts for name in rows["strategy"].unique() if name in STRATEGIES}
    told = "; ".join(f"{name} {'with' if ghosts else 'without'} ghost clusters" for name, ghosts in ghosts_of.items())
    claim = (
        "The paper says that ghost clusters take up noisy segments. Ghosts act only through the relative weights of "
        "the descriptors of one utterance: with one descriptor they change nothing, and so noise over the whole "
        "utterance and over half of it, and short and long utterances, are shown apart."
        + f" Networks: {told}."
        * bool(told)
    )
    return Section("Robustness to noise", [Notice(claim), *_ghost_differences(rows)], sections)


Measure = Callable[[pd.DataFrame], Interval]


def _noise_panels(rows: pd.DataFrame, looks: figures.Looks, stem: str, label: str, measure: Measure) -> Iterator[Panel]:
    clean_rows, noisy = rows[rows["snr_db"].isna()], rows[rows["snr_db"].notna()]
    clean = {str(name): measure(group) for name, group in clean_rows.groupby("strategy")}
    for kind, of_kind in noisy.groupby("noise"):
        lines = _by_ratio(of_kind, measure)
        told = _in_words(lines)
        drawing = figures.noise(lines, clean, looks, label, f"{kind} noise")
        yield Panel(f"{stem}-{kind}", f"{label[:-3]} in percent with {kind} noise: {told}.", drawing)


def _by_ratio(rows: pd.DataFrame, measure: Measure) -> dict[str, dict[float, Interval]]:
    """Network -> signal-to-noise ratio -> what is measured."""
    return {
        str(name): {float(group["snr_db"].iloc[0]): measure(group) for _, group in of_name.groupby("snr_db")}
        for name, of_name in rows.groupby("strategy")
    }


def _in_words(lines: dict[str, dict[float, Interval]]) -> str:
    return "; ".join(
        f"{name} " + ", ".join(f"{ratio:g} dB {value:.1f}" for ratio, (value, _, _) in line.items())
        for name, line in lines.items()
    )


def _noise_table(rows: pd.DataFrame) -> Table:
    ratios = sorted(rows["snr_db"].dropna().unique())
    cells = []
    for (kind, name), group in rows[rows["snr_db"].notna()].groupby(["noise", "strategy"]):
        clean = rows[rows["snr_db"].isna() & (rows["strategy"] == name)]
        found = [_estimate(group[group["snr_db"] == ratio]) for ratio in ratios]
        found.append(_estimate(clean) if len(clean) else Estimate(None, None, None))
        cells.append([str(kind), str(name), *map(interval, found)])
    return Table(
        "UAR in percent with 95 % intervals.", ["noise", "network", *(f"{r:g} dB" for r in ratios), "clean"], cells
    )


def _halves(rows: pd.DataFrame) -> Iterator[Block]:
    """Ghost share of the descriptors of the noisy half beside that of the clean one, where the test tells it."""
    told = ("both_halves", "ghost_share_noisy", "ghost_share_clean")
    if not set(told) <= set(rows.columns):
        return
    cells = []
    for (name, kind, ratio), group in rows[rows["ghost_share_noisy"].notna()].groupby(["strategy", "noise", "snr_db"]):
        shares = [100 * float(np.average(group[key], weights=group["both_halves"])) for key in told[1:]]
        counted = str(int(group["both_halves"].sum()))
        cells.append([str(name), str(kind), f"{ratio:g} dB", counted, *(f"{share:.1f}" for share in shares)])
    if cells:
        yield Table(
            "Mean ghost share, percent, of the descriptors whose own frames lie in the noisy half, and of those in the "
            "clean half of the same utterances. A descriptor sees about 2 s, so the halves are blurred.",
            ["network", "noise", "ratio", "utterances", "noisy half", "clean half"],
            cells,
        )


def _by_descriptors(rows: pd.DataFrame, looks: figures.Looks, stem: str) -> Iterator[Block]:
    """UAR by the number of descriptors M, all kinds of noise together."""
    panels = []
    for count, group in rows.groupby(rows["descriptors"].astype(str)):
        noisy, clean_rows = group[group["snr_db"].notna()], group[group["snr_db"].isna()]
        if noisy.empty:
            continue
        lines = _by_ratio(noisy, _uar)
        clean = {str(name): _uar(part) for name, part in clean_rows.groupby("strategy")}
        what = f"M = {str(count).replace('+', ' and more')}"
        told = _in_words(lines)
        panels.append(
            Panel(
                f"{stem}-descriptors-{str(count).rstrip('+')}",
                f"UAR in percent of utterances with {what}, all noises: {told}.",
                figures.noise(lines, clean, looks, "UAR, %", what),
            )
        )
    if panels:
        yield Figure(
            "The same by the number of descriptors M of an utterance, all kinds of noise together; an utterance's M is "
            "that of the noisy speech. Where M is 1 ghosts cannot act, so the networks should not part there; few "
            "utterances stand behind some panels.",
            panels,
        )


def _ghost_differences(rows: pd.DataFrame) -> Iterator[Block]:
    """How much less the network with ghosts loses, where exactly one with and one without were tested."""
    names = [name for name in sorted(rows["strategy"].unique()) if name in STRATEGIES]
    haunted = [name for name in names if STRATEGIES[name].ghosts]
    plain = [name for name in names if not STRATEGIES[name].ghosts]
    if len(haunted) != 1 or len(plain) != 1:
        return
    order = sorted(rows["speaker"].unique()), sorted(rows["emotion"].unique())
    clean = [_counts(rows[rows["snr_db"].isna() & (rows["strategy"] == name)], *order) for name in (*haunted, *plain)]
    cells = []
    noisy = rows[rows["snr_db"].notna()]
    for (portion, kind, ratio), group in noisy.groupby(["portion", "noise", "snr_db"]):
        parts = [_counts(group[group["strategy"] == name], *order) for name in (*haunted, *plain)]

        def gain(drawn: np.ndarray, parts: list[np.ndarray] = parts) -> np.ndarray:
            ghost, none, ghost_clean, none_clean = (_resampled_uar(drawn, one) for one in (*parts, *clean))
            return ((ghost - ghost_clean) - (none - none_clean))[:, None]

        (difference,) = estimates(gain, speakers=len(order[0]))
        cells.append([str(portion), str(kind), f"{ratio:g} dB", interval(difference)])
    yield Table(
        f"What ghosts are worth against noise: the UAR that {haunted[0]} loses against its own clean score, less than "
        f"{plain[0]} does, in points with 95 % intervals by resampling speakers (not corrected for the number of "
        "rows). Above 0 speaks for the paper's claim where the interval leaves out 0.",
        ["portion", "noise", "ratio", "points"],
        cells,
    )


def _counts(rows: pd.DataFrame, speakers: Sequence[str], emotions: Sequence[str]) -> np.ndarray:
    """Utterances and rightly named ones, int [speakers, 2, emotions]."""
    sums = rows.groupby(["speaker", "emotion"])[["utterances", "correct"]].sum()
    index = pd.MultiIndex.from_product([speakers, emotions])
    full = sums.reindex(index, fill_value=0).to_numpy()
    return full.reshape(len(speakers), len(emotions), 2).swapaxes(1, 2)


def _resampled_uar(times_drawn: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """UAR float [B] of speakers drawn so often, float [B, speakers]."""
    totals = (times_drawn @ counts.reshape(len(counts), -1)).reshape(-1, *counts.shape[1:])
    spoken, hits = totals[:, 0], totals[:, 1]
    recall = np.divide(hits, spoken, out=np.full(hits.shape, np.nan), where=spoken > 0)
    return np.nanmean(recall, axis=1)


def _estimate(rows: pd.DataFrame) -> Estimate:
    speakers = sorted(rows["speaker"].unique())
    counts = _counts(rows, speakers, sorted(rows["emotion"].unique()))
    (found,) = estimates(lambda drawn: _resampled_uar(drawn, counts)[:, None], speakers=len(speakers))
    return found


def _uar(rows: pd.DataFrame) -> Interval:
    found = _estimate(rows)
    ends = [None if end is None else 100 * end for end in (found.low, found.high)]
    return 100 * (found.value or 0.0), ends[0], ends[1]


def _ghost_share(rows: pd.DataFrame) -> Interval:
    """Mean over utterances."""
    return 100 * float(np.average(rows["ghost_share"], weights=rows["utterances"])), None, None
