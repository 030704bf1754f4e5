"""Sweeps (figures 10 and 11)."""

from collections.abc import Iterator, Sequence

import numpy as np

from ser_tf.report import figures, paper
from ser_tf.report.document import Block, Figure, Notice, Panel, Section, Table
from ser_tf.report.figures import setting
from ser_tf.report.results import CORPUS_NAMES
from ser_tf.report.sources import SweepTable, scheme_of
from ser_tf.statistics.scores import points

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


def sweep(one: SweepTable, number: int) -> Section:
    """Validation UAR against the parameters of a sweep."""
    corpus = CORPUS_NAMES.get(one.corpus, one.corpus)
    names = [PARAMETER_NAMES.get(name, name) for name in one.parameters]
    which = PAPERS_FIGURES.get(one.parameters)
    folds, seeds = (sorted(one.rows[key].unique()) for key in ("fold", "seed"))
    means = one.rows.groupby(list(one.parameters))[SCORE].agg(["mean", "min", "max", "count"])
    best = means["mean"].idxmax()
    values = best if isinstance(best, tuple) else (best,)
    chosen = ", ".join(f"{name} {setting(value)}" for name, value in zip(names, values, strict=True))
    complete = len(means) == one.points and len(set(means["count"])) == 1
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
            "UAR on validation speakers in percent, over folds and seeds. The folds' own test speakers took no part; "
            f"{_tested_elsewhere(one, folds)}.",
            [*names, "mean", "min", "max", "runs"],
            rows,
        )
    )
    return Section(f"Sweep over {' and '.join(names)}, {corpus}{f' ({which.lower()})' if which else ''}", blocks)


def _tested_elsewhere(one: SweepTable, folds: Sequence[int]) -> str:
    """Who was validated on in these folds and is tested in others, where a default taken from a sweep is not blind."""
    scheme = scheme_of(one.corpus, one.scheme)
    if scheme is None:
        return "but whoever was validated on here may be tested in another fold"
    validated = {speaker for fold in folds for speaker in scheme.fold(fold).validation}
    others = [str(fold.number) for fold in scheme.folds if validated & set(fold.test)]
    if not others:
        return "no fold tests anyone who was validated on here"
    return f"but those who were validated on here are tested in fold{'s' * (len(others) > 1)} {', '.join(others)}"


def _sweep_panels(one: SweepTable, names: Sequence[str], number: int) -> Iterator[Panel]:
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
