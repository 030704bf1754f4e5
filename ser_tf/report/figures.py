"""The drawings of a report, one function per kind, with matplotlib.

Panels are narrow, so that their text is readable on a phone; wide pages set them side by side. Colour never carries
information alone: markers, dashes or numbers repeat it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ser_tf.metrics import ReliabilityBin
from ser_tf.report.colours import COLOURS, FAINT, INK, PAPER

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (5, 1)), (0, (1, 1)), (0, (8, 2)))
STRATEGY_PLACES = {"S1": 5, "S2": 4, "S3": 0, "S4": 2, "S5": 1}
"""Fixed indices of a strategy's colour, marker and dash, so that it looks the same in every report."""
SEQUENTIAL = LinearSegmentedColormap.from_list("report", ["#f4f7fa", "#a9c4de", "#43749f", "#1b3452"])
WIDTH_INCHES = 3.6
"""Narrow, so that the smallest letters, of 9 points, have 11 pixels in a panel of 20rem."""

Interval = tuple[float, float | None, float | None]
"""Value and both ends in percent; the ends are None if there is no interval."""


class Look(NamedTuple):
    """How a line of the tables, or an emotion, looks in every figure."""

    colour: str
    marker: str
    dash: Any


Looks = Mapping[str, Look]


def looks_of(labels: Sequence[str]) -> dict[str, Look]:
    """A look for each label: a fixed one for S1 to S5, a free one for each other label."""
    taken = [STRATEGY_PLACES[label] for label in labels if label in STRATEGY_PLACES]
    places = [place for place in range(len(COLOURS)) if place not in STRATEGY_PLACES.values()]
    places += [place for place in STRATEGY_PLACES.values() if place not in taken]
    free = cycle(places)
    looks: dict[str, Look] = {}
    for number, label in enumerate(labels):
        place = STRATEGY_PLACES[label] if label in STRATEGY_PLACES else next(free)
        shape = place + (number // len(COLOURS))  # a repeated colour gets a new marker and dash
        looks[label] = Look(COLOURS[place], MARKERS[shape % len(MARKERS)], DASHES[shape % len(DASHES)])
    return looks


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings in effect while drawings are made and written."""
    settings = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "axes.edgecolor": FAINT,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "svg.fonttype": "none",
        "text.parse_math": False,  # a dollar sign in a name starts no formula
        "svg.hashsalt": "ser_tf",
        "figure.facecolor": PAPER,
        "axes.facecolor": "none",
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK),
    }
    with matplotlib.rc_context(settings):
        yield


def intervals(
    rows: Mapping[str, Interval], reference: Mapping[str, float], looks: Looks, label: str, chance: float
) -> Figure:
    """Values with intervals, a row each; hollow diamonds mark `reference`, a dotted line marks `chance`."""
    figure, axes = _panel(0.34 * len(rows) + 1.1)
    for place, (name, (value, low, high)) in enumerate(rows.items()):
        colour, marker, _ = looks[name]
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
        axes.plot(value, place, marker, color=colour, markersize=7)
        axes.annotate(f"{value:.1f}", (value, place), (0, 6), textcoords="offset points", ha="center")
    shown = [name for name in reference if name in rows]
    if shown:
        places = [list(rows).index(name) for name in shown]
        axes.plot(
            [reference[name] for name in shown], places, "D", mfc="none", mec=INK, linestyle="none", label="the paper"
        )
    axes.axvline(chance, color=INK, linestyle=":", linewidth=1, label="chance")
    axes.set(yticks=range(len(rows)), yticklabels=list(rows), xlabel=label, ylim=(len(rows) - 0.5, -0.7), xlim=(0, 100))
    axes.grid(axis="y", visible=False)
    _legend_below(figure, axes)
    return figure


def fold_spread(
    ours: Mapping[str, Sequence[float]],
    paper: Mapping[str, tuple[float, float, float]],
    looks: Looks,
    label: str,
) -> Figure:
    """Figure 8: minimum, mean and maximum over folds, the paper's beside ours; a dash marks each fold of ours."""
    names = list(dict.fromkeys([*paper, *ours]))
    figure, axes = _panel(3.6)
    for place, name in enumerate(names):
        if name in paper:
            low, mean, high = paper[name]
            axes.plot([place + 0.2] * 2, [low, high], "_-", color=INK, linewidth=1.2, markersize=8)
            axes.plot(place + 0.2, mean, "D", mfc=PAPER, mec=INK, markersize=4)
        if name in ours:
            values = np.array(ours[name])
            colour, marker, _ = looks[name]
            axes.plot([place - 0.2] * 2, [values.min(), values.max()], color=colour, linewidth=2)
            axes.plot([place - 0.2] * len(values), values, "_", color=colour, markersize=9)
            axes.plot(place - 0.2, values.mean(), marker, color=colour, markersize=6)
    axes.plot([], [], "o-", color=COLOURS[0], label="here: minimum, mean, maximum; a dash per fold")
    axes.plot([], [], "D-", color=INK, mfc=PAPER, markersize=4, label="the paper: minimum, mean, maximum")
    axes.set(xticks=range(len(names)), xticklabels=names, ylabel=label)
    if max(map(len, names)) > 6:
        axes.tick_params(axis="x", rotation=30)
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    axes.grid(axis="x", visible=False)
    _legend_below(figure, axes, columns=1)
    return figure


def confusion(counts: np.ndarray, percent: np.ndarray, emotions: Sequence[str], title: str) -> Figure:
    """Figure 9: percent of the row, with the count below; a row per true emotion."""
    figure, axes = _panel(WIDTH_INCHES)
    axes.pcolormesh(percent, cmap=SEQUENTIAL, vmin=0, vmax=100, edgecolors="face", linewidth=0.1)
    for row in range(len(emotions)):
        for column in range(len(emotions)):
            share = percent[row, column]
            colour = "#ffffff" if share > 45 else "#1d2328"
            if not counts[row, column]:
                continue
            axes.text(column + 0.5, row + 0.3, f"{share:.0f}", color=colour, ha="center", va="center", weight="bold")
            axes.text(column + 0.5, row + 0.72, f"{counts[row, column]}", color=colour, ha="center", va="center")
    places = np.arange(len(emotions)) + 0.5
    axes.set(xticks=places, yticks=places, yticklabels=emotions, aspect="equal", title=title)
    axes.set_xticklabels(emotions, rotation=45, ha="right", rotation_mode="anchor")
    axes.set(xlabel="named", ylabel="true")
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def reliability_curve(curve: Sequence[ReliabilityBin], look: Look, title: str) -> Figure:
    """Accuracy against confidence; the area of a dot is its share of the utterances."""
    figure, axes = _panel(3.3)
    colour, marker, _ = look
    shares = np.array([one.utterances for one in curve]) / sum(one.utterances for one in curve)
    confidence, accuracy = ([100 * getattr(one, key) for one in curve] for key in ("confidence", "accuracy"))
    axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=":")
    axes.plot(confidence, accuracy, color=colour)
    sizes = 12 + 500 * shares
    axes.scatter(confidence, accuracy, s=sizes, color=colour, marker=marker, linewidths=0, clip_on=False, zorder=3)
    axes.set(xlabel="confidence, %", ylabel="accuracy, %", xlim=(0, 100), ylim=(0, 100), title=title)
    return figure


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], looks: Looks, x_label: str, y_label: str
) -> Figure:
    """A line per name, from its x and y."""
    figure, axes = _panel(3.3)
    for name, (x, y) in lines.items():
        colour, marker, dash = looks[name]
        axes.plot(x, y, color=colour, linestyle=dash, marker=marker, markevery=max(1, len(x) // 8), label=name)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_ylim(bottom=0)
    _legend_below(figure, axes)
    return figure


def speaker_dots(scores: Mapping[str, Mapping[str, float]], sex: Mapping[str, str], looks: Looks) -> Figure:
    """UAR of each speaker, sorted by the mean over the lines; w marks women, m men."""
    found: dict[str, list[float]] = {}
    for line in scores.values():
        for name, value in line.items():
            found.setdefault(name, []).append(value)
    order = sorted(found, key=lambda name: np.mean(found[name]))
    figure, axes = _panel(0.16 * len(order) + 1.2)
    for label, line in scores.items():
        colour, marker, _ = looks[label]
        known = [index for index, name in enumerate(order) if name in line]
        axes.plot([line[order[index]] for index in known], known, marker, color=colour, label=label, linestyle="none")
    letters = {"female": "w", "male": "m"}
    names = [f"{name.partition(':')[2]} {letters.get(sex.get(name, ''), '')}".strip() for name in order]
    axes.set(yticks=range(len(order)), xlabel="UAR, %", xlim=(0, 100), ylim=(-0.7, len(order) - 0.3))
    axes.set_yticklabels(names)
    _legend_below(figure, axes)
    return figure


def space(points: np.ndarray, emotions: np.ndarray, looks: Looks, title: str) -> Figure:
    """Figures 6 and 7: utterances placed on a plane, colour and marker by emotion."""
    figure, axes = _panel(WIDTH_INCHES)
    for emotion, (colour, marker, _) in looks.items():
        here = points[emotions == emotion]
        axes.scatter(here[:, 0], here[:, 1], s=16, marker=marker, color=colour, label=emotion, linewidths=0)
    axes.set(xticks=[], yticks=[], title=title)
    axes.grid(visible=False)
    _legend_below(figure, axes, columns=4)
    return figure


def training(epochs: Mapping[str, Sequence[float]], best: Mapping[str, int], y_label: str, title: str) -> Figure:
    """A thin line per run over its epochs; a dot marks the epoch that was kept."""
    figure, axes = _panel(2.8)
    for place, (name, values) in enumerate(epochs.items()):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
        axes.plot(range(1, len(values) + 1), values, color=colour, linestyle=dash, linewidth=1.1, label=name)
        if name in best:
            axes.plot(best[name], values[best[name] - 1], "o", color=colour)
    axes.set(xlabel="epoch", ylabel=y_label, title=title)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_below(figure, axes, columns=4)
    return figure


def setting(value: Any) -> str:
    """A value of a swept parameter, a number or a word, as text."""
    return value if isinstance(value, str) else f"{value:g}"


def sweep_line(per_fold: Mapping[str, tuple[Sequence[Any], Sequence[float]]], parameter: str, chosen: float) -> Figure:
    """Figure 10: validation UAR against one parameter; thin lines are folds, the thick one their mean."""
    figure, axes = _panel(3.0)
    values = sorted({value for x, _ in per_fold.values() for value in x})
    for name, (x, y) in per_fold.items():
        axes.plot([values.index(value) for value in x], y, color=FAINT if name else INK, linewidth=1)
    means = [np.mean([y[list(x).index(value)] for x, y in per_fold.values() if value in x]) for value in values]
    axes.plot(range(len(values)), means, "o-", color=COLOURS[0], linewidth=2.2, label="mean over folds and seeds")
    axes.plot([], [], color=FAINT, label="one fold and seed")
    if chosen in values:
        axes.axvline(values.index(chosen), color=INK, linestyle=":", linewidth=1, label="the paper's choice")
    axes.set(xticks=range(len(values)), xticklabels=[*map(setting, values)])
    axes.set(xlabel=parameter, ylabel="validation UAR, %")
    ticks = axes.yaxis.get_major_locator().tick_values(*axes.get_ylim())
    axes.set_ylim(ticks[0], ticks[-1])  # the axis starts and ends at a number
    _legend_below(figure, axes, columns=1)
    return figure


def sweep_grid(
    means: np.ndarray, rows: Sequence[Any], columns: Sequence[Any], names: tuple[str, str], chosen: tuple
) -> Figure:
    """Figure 11: mean validation UAR over two parameters; a frame marks the paper's choice."""
    figure, axes = _panel(3.4)
    axes.pcolormesh(means, cmap=SEQUENTIAL, edgecolors="face", linewidth=0.1)
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for (row, column), value in np.ndenumerate(means):
        if np.isfinite(value):
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{value:.1f}",
                ha="center",
                va="center",
                color="#ffffff" if value > middle else "#1d2328",
            )
    if chosen[0] in rows and chosen[1] in columns:
        corner = (list(columns).index(chosen[1]), list(rows).index(chosen[0]))
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2.4))
    axes.set(yticks=np.arange(len(rows)) + 0.5, yticklabels=[*map(setting, rows)], ylabel=names[0])
    axes.set(xticks=np.arange(len(columns)) + 0.5, xticklabels=[*map(setting, columns)], xlabel=names[1])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def noise_curves(
    lines: Mapping[str, Mapping[float, Interval]],
    clean: Mapping[str, Interval],
    looks: Looks,
    y_label: str,
    title: str,
    chance: float | None = None,
) -> Figure:
    """A score against the signal-to-noise ratio; the rightmost point is without noise."""
    figure, axes = _panel(3.2)
    if chance is not None:
        axes.axhline(chance, color=INK, linestyle=":", linewidth=1, label="chance")
    ratios = sorted({ratio for line in lines.values() for ratio in line})
    for place, (name, line) in enumerate(lines.items()):
        colour, marker, dash = looks[name]
        shift = 0.08 * (place - (len(lines) - 1) / 2)
        points = [(ratios.index(ratio), value) for ratio, value in sorted(line.items())]
        if name in clean:
            points.append((len(ratios), clean[name]))
        x = [at + shift for at, _ in points]
        for at, (_, (_, low, high)) in zip(x, points, strict=True):
            if low is not None and high is not None:
                axes.plot([at, at], [low, high], color=colour, linewidth=1.2, alpha=0.8)
        axes.plot(x, [value for _, (value, _, _) in points], color=colour, linestyle=dash, marker=marker, label=name)
    ticks = [f"{ratio:g}" for ratio in ratios] + (["clean"] if clean else [])
    axes.set(xticks=range(len(ticks)), xticklabels=ticks, xlabel="signal-to-noise ratio, dB", title=title)
    axes.set_ylabel(y_label)
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])  # room for the markers of flat lines
    _legend_below(figure, axes)
    return figure


def _panel(height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    return figure, figure.add_subplot()


def _legend_below(figure: Figure, axes: Axes, columns: int = 2) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        fitting = max(1, min(columns, len(labels), int(48 / (max(map(len, labels)) + 6))))
        figure.legend(handles, labels, loc="outside lower left", ncols=fitting)
