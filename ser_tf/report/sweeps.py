"""Sweeps (figures 10 and 11)."""

from collections.abc import Iterator, Sequence

import numpy as np

from ser_tf.report import figures, paper
from ser_tf.report.document import Block, Figure, Notice, Panel, Section, Table
from ser_tf.report.evaluations import scheme_of
from ser_tf.report.figures import setting
from ser_tf.report.sources import UNCHANGED, SweepTable
from ser_tf.report.words import corpus_name
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
    if one.ablation:
        return _ablation(one)
    corpus = corpus_name(one.corpus)
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
        blocks.append(Notice("Some settings lack folds or seeds, so the means are not comparable."))
    panels = list(_sweep_panels(one, names, number))
    if panels:
        blocks.append(
            Figure(
                f"{f'{which}: best' if which else 'Best'} UAR on the validation speakers of {corpus}, {one.scheme} "
                f"folds {', '.join(map(str, folds))}, seeds {', '.join(map(str, seeds))}; {one.strategy} from "
                f"{one.start}, {one.epochs} epochs. The highest mean is at {chosen}. Compare the differences "
                "between settings with those between folds. A short training ranks settings for short trainings only.",
                panels,
            )
        )
    rows = [
        [*map(setting, at if isinstance(at, tuple) else (at,)), *map(points, row[:3]), f"{row[3]:.0f}"]
        for at, row in zip(means.index, means.to_numpy(), strict=True)
    ]
    blocks.append(
        Table(
            "UAR on validation speakers in percent, over folds and seeds. The folds' own test speakers were not used; "
            f"{_tested_elsewhere(one, folds)}.",
            [*names, "mean", "min", "max", "runs"],
            rows,
        )
    )
    return Section(f"Sweep over {' and '.join(names)}, {corpus}{f' ({which.lower()})' if which else ''}", blocks)


def _ablation(one: SweepTable) -> Section:
    """Validation UAR after each change of one parameter."""
    per_run = one.rows.pivot_table(index="change", columns=["fold", "seed"], values=SCORE, sort=False).dropna(axis=1)
    folds, seeds = (sorted(one.rows[key].unique()) for key in ("fold", "seed"))
    blocks: list[Block] = []
    if len(per_run) < one.points or per_run.shape[1] < len(folds) * len(seeds):
        blocks.append(Notice("Some changes lack folds or seeds; the table shows those that every change has finished."))
    if UNCHANGED in per_run.index and per_run.shape[1]:
        means = per_run.mean(axis=1)
        rows = [
            [str(change), points(uar), f"{100 * (uar - means[UNCHANGED]):+.1f}", *map(points, uars)]
            for change, uar, uars in zip(per_run.index, means, per_run.to_numpy(), strict=True)
        ]
        several = len(seeds) > 1
        names = [f"fold {run[0]}" + f", seed {run[1]}" * several for run in per_run.columns]
        blocks.append(
            Table(
                f"{one.strategy} from {one.start}, {one.epochs} epochs, {one.scheme} folds: UAR on validation speakers "
                f"in percent. The folds' own test speakers were not used; {_tested_elsewhere(one, folds)}.",
                ["change", "mean", "difference", *names],
                rows,
            )
        )
    return Section(f"Ablation, {corpus_name(one.corpus)}", blocks)


def _tested_elsewhere(one: SweepTable, folds: Sequence[int]) -> str:
    """Which folds test these folds' validation speakers; a setting chosen by the sweep is not blind there."""
    scheme = scheme_of(one.corpus, one.scheme)
    if scheme is None:
        return "other folds may test the validation speakers"
    validated = {speaker for fold in folds for speaker in scheme.fold(fold).validation}
    others = [str(fold.number) for fold in scheme.folds if validated & set(fold.test)]
    if not others:
        return "no fold tests the validation speakers"
    return f"the validation speakers are tested in fold{'s' * (len(others) > 1)} {', '.join(others)}"


def _sweep_panels(one: SweepTable, names: Sequence[str], number: int) -> Iterator[Panel]:
    stem = f"sweep-{number}-{one.corpus}-{'-'.join(name.rpartition('.')[2] for name in one.parameters)}"
    rows = one.rows.assign(**{SCORE: 100 * one.rows[SCORE]})
    if len(one.parameters) == 1:
        (parameter,) = one.parameters
        lines = {
            f"fold {fold}, seed {seed}": (group[parameter].tolist(), group[SCORE].tolist())
            for (fold, seed), group in rows.sort_values(parameter).groupby(["fold", "seed"])
        }
        numbers = ", ".join(
            f"{setting(value)}: {mean:.1f}" for value, mean in rows.groupby(parameter)[SCORE].mean().items()
        )
        drawing = figures.sweep_line(lines, names[0], paper.CHOSEN.get(parameter, np.nan))
        yield Panel(stem, f"Mean validation UAR in percent by {names[0]}: {numbers}.", drawing)
    elif len(one.parameters) == 2:
        means = rows.pivot_table(index=one.parameters[0], columns=one.parameters[1], values=SCORE)
        numbers = "; ".join(
            f"{names[0]} {setting(row)}: "
            + ", ".join(f"{setting(column)} {value:.1f}" for column, value in line.items())
            for row, line in means.iterrows()
        )
        chosen = tuple(paper.CHOSEN.get(name, np.nan) for name in one.parameters)
        drawing = figures.sweep_grid(
            means.to_numpy(), means.index.tolist(), means.columns.tolist(), (names[0], names[1]), chosen
        )
        yield Panel(stem, f"Mean validation UAR in percent by {' and '.join(names)}: {numbers}.", drawing)
