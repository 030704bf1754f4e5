"""What an evaluation came to: how it was made, tables 1 to 3 and figure 8 of the paper, comparisons in sentences."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser_tf.config import PRESETS, TrainingConfig
from ser_tf.corpora.demographics import Demographics, demographics_of
from ser_tf.corpora.folds import RANDOM_SPLIT
from ser_tf.documents import read_json
from ser_tf.errors import UserError
from ser_tf.report import figures, paper
from ser_tf.report.document import Block, Bullets, Figure, Notice, Panel, Paragraph, Section, Table
from ser_tf.report.figures import Interval, Look
from ser_tf.report.sources import Evaluation, Line, preset_in_words, scheme_of
from ser_tf.statistics.comparison import SIGNIFICANCE_LEVEL, Comparison, compare_strategies
from ser_tf.statistics.scores import Estimate, Spread, interval_in_words, points
from ser_tf.statistics.summary import StrategySummary, summarise_strategy
from ser_tf.statistics.table import PredictionTable

LONGEST_NUMBER = 10
"""Digits; a name of more is no number that a range would make readable."""
CORPUS_NAMES = {"ravdess": "RAVDESS", "crema_d": "CREMA-D", "synthetic": "synthetic corpus"}
SCHEME_NOTES = {
    "complete": "every speaker is tested once",
    "corrected": "the paper's Table 1 with its slip in fold 2 mended",
    "published": "the paper's Table 1 as printed, labels put right",
    "emobox": "six folds",
}


@dataclass(frozen=True)
class Scored:
    """An evaluation with all its statistics."""

    evaluation: Evaluation
    summaries: dict[str, StrategySummary]
    """By label of the line."""
    comparisons: tuple[Comparison, ...]
    """Of the networks among themselves; over the folds that all of them have finished."""
    against_yardsticks: tuple[Comparison, ...]
    """Of each network with each yardstick; over the folds that all lines have finished."""
    compared_folds: tuple[int, ...]
    demographics: Demographics
    looks: dict[str, Look]
    has_twin: bool
    """Whether the report holds the same folds on other recordings."""

    @property
    def corpus(self) -> str:
        """Its name, as people write it."""
        return CORPUS_NAMES.get(self.evaluation.corpus, self.evaluation.corpus)

    @property
    def title(self) -> str:
        """Corpus and folds, and the data where the same folds are there on others too."""
        others = f" of data {self.evaluation.data_hash[:4]}" * self.has_twin
        return f"{self.corpus}, {self.evaluation.scheme} folds{others}"

    @property
    def slug(self) -> str:
        """For names of files."""
        one = self.evaluation
        return f"{one.corpus}-{one.scheme}-{one.data_hash[:4]}-{one.scheme_hash[:4]}"

    @property
    def informative(self) -> list[str]:
        """Labels of the lines that name more than one emotion: all but the majority class."""
        return [line.label for line in self.evaluation.scored if line.strategy.partition(",")[0] != "majority"]

    @property
    def confident(self) -> list[str]:
        """Those of them that have probabilities; listeners have votes."""
        listeners = [line.label for line in self.evaluation.scored if line.strategy.partition(",")[0] == "human"]
        return [label for label in self.informative if label not in listeners]

    @property
    def emotions(self) -> list[str]:
        """In label order."""
        (first, *_) = self.summaries.values()
        return list(first.scores.pooled.recall)

    def finished_folds(self, line: Line) -> str:
        """How many folds the line has finished, as in "3 of 10"."""
        scheme = self.evaluation.folds
        return f"{len(line.folds)} of {len(scheme.folds)}" if scheme else f"{len(line.folds)}"

    @property
    def partial(self) -> bool:
        """Whether a line lacks folds."""
        scheme = self.evaluation.folds
        lacking = scheme is not None and any(len(line.folds) < len(scheme.folds) for line in self.evaluation.scored)
        return lacking or any(not run.folder.finished for run in self.evaluation.runs)


def scored_evaluation(evaluation: Evaluation, root: Path | None, *, has_twin: bool = False) -> Scored:
    """Compute everything.

    Args:
        evaluation: at least one of its lines has a finished run.
        root: directory of the corpus, where it is at hand.
        has_twin: whether the report holds the same folds on other recordings.

    Raises:
        UserError: predictions are damaged.
    """
    tables = {line.label: line.table() for line in evaluation.scored}
    demographics = demographics_of(evaluation.corpus, evaluation.speakers, root)
    networks = [line.label for line in evaluation.networks]
    yardsticks = [line.label for line in evaluation.scored if not line.network and line.strategy != "majority"]
    folds = evaluation.common_folds
    against = [(one, other) for one in networks for other in yardsticks]
    return Scored(
        evaluation,
        {label: summarise_strategy(table, label, demographics) for label, table in tables.items()},
        comparisons=_compared(tables, folds, list(combinations(networks, 2))),
        against_yardsticks=_compared(tables, folds, against, yardsticks),
        compared_folds=folds,
        demographics=demographics,
        looks=figures.looks_of(list(tables)),
        has_twin=has_twin,
    )


def _compared(
    tables: Mapping[str, PredictionTable],
    folds: Sequence[int],
    pairs: Sequence[tuple[str, str]],
    seedless: Sequence[str] = (),
) -> tuple[Comparison, ...]:
    """Compare over these folds; nothing where there are none, or where a recording lacks in one of the tables."""
    names = sorted({name for pair in pairs for name in pair})
    if not names or not folds:
        return ()
    rows = pd.concat([tables[name].rows for name in names], ignore_index=True)
    together = dataclasses.replace(tables[names[0]], rows=rows[rows["fold"].isin(folds)])
    try:
        return compare_strategies(together, pairs, seedless)
    except UserError:
        return ()


def lead(scored: Scored) -> list[Block]:
    """What was measured, on what, and the main result."""
    evaluation = scored.evaluation
    speakers = len(evaluation.speakers)
    named = ", ".join(line.label for line in evaluation.scored)
    folds = evaluation.folds
    of = f"{len(folds.folds)} folds" if folds else "folds"
    note = SCHEME_NOTES.get(evaluation.scheme, "a scheme of the user's own")
    blocks: list[Block] = [
        Paragraph(
            f"Measured: {named}, on {speakers} speakers of {scored.corpus} in the {of} of scheme "
            f"`{evaluation.scheme}` ({note}). A test speaker is never heard in training."
        )
    ]
    if scored.partial:
        states = "; ".join(f"{line.label} {scored.finished_folds(line)} folds" for line in evaluation.lines)
        blocks.append(
            Notice(
                f"This is a partial evaluation, not the whole: {states}. Numbers of different folds must not be "
                "compared; only the comparisons below are over the same ones."
            )
        )
    blocks.append(Paragraph(main_result(scored)))
    if scored.comparisons:
        differing = sum(one.p_holm <= SIGNIFICANCE_LEVEL for one in scored.comparisons)
        told = f"{differing} of {len(scored.comparisons)} pairs of trained networks differ significantly"
        if not differing:
            told = "No difference between the trained networks is shown"
        blocks.append(Paragraph(f"{told} (over {_folds_in_words(scored.compared_folds)}; sentences below)."))
    return [*blocks, Bullets(list(_kind(scored)))]


def main_result(scored: Scored) -> str:
    """The highest UAR with its interval, and the best simple method beside it."""

    def uar(line: Line) -> float:
        return scored.summaries[line.label].scores.pooled.uar.value or 0.0

    networks = scored.evaluation.networks
    yardsticks = [line for line in scored.evaluation.scored if not line.network]
    told = []
    for lines, kind in ((networks, "networks"), (yardsticks, "simple methods")):
        if lines:
            best = max(lines, key=uar)
            over = f"{scored.finished_folds(best)} folds"
            sentence = scored.summaries[best.label].scores.sentence
            if kind == "simple methods":
                pooled = scored.summaries[best.label].scores.pooled
                value = points(pooled.uar.value or 0.0)
                sentence = f"{best.label}, {value} % UAR ({interval_in_words(pooled.uar, pooled.speakers)})."
            told.append(f"Highest of {len(lines)} {kind} ({over}): {sentence}")
    return " ".join(told)


def _length(training: TrainingConfig, from_weights: bool) -> str:
    if training.schedule == "step":
        return f"at most {training.maximum_epochs} epochs"
    return f"{(training.steps_from_weights if from_weights else 0) or training.steps} steps"


def _is_shorter(training: TrainingConfig, recipe: TrainingConfig) -> bool:
    if training.schedule != recipe.schedule:
        return True
    lengths = ("maximum_epochs",) if recipe.schedule == "step" else ("steps", "steps_from_weights")
    return any(getattr(training, length) < getattr(recipe, length) for length in lengths)


def _kind(scored: Scored) -> Iterator[str]:
    """What kind of runs these are, plainly."""
    lines = [line for line in scored.evaluation.lines if line.network]
    if not lines:
        yield "No network was trained: these are yardsticks, simple methods on the folds of the networks."
    told: dict[str, list[str]] = {}
    is_pilot = is_small = False
    for line in lines:
        config = line.runs[0].config
        name, _, changes = preset_in_words(config).partition("; ")
        is_pilot |= _is_shorter(config.training, PRESETS[name].training)
        is_small |= name != "paper"
        length = _length(config.training, from_weights=line.runs[0].identity["weights"] is not None)
        text = f"preset `{name}`" + (f" with `{changes}`" if changes else "") + f", {length}"
        told.setdefault(text, []).append(line.label)
    if is_pilot:
        yield "These are pilots: their training is shorter than their preset's."
    if is_small:
        yield "The networks are smaller than the paper's."
    yield from (f"{', '.join(labels)}: {text}." for text, labels in told.items())
    starts: dict[str, list[str]] = {}
    for line in lines:
        if line.strategy != "S1":
            starts.setdefault(line.runs[0].start, []).append(line.label)
    for start, labels in starts.items():
        yield f"{', '.join(labels)}: from {start}; the paper starts from a pre-training on VoxCeleb2."
    for corpora in dict.fromkeys(line.runs[0].pretrained_on for line in lines):
        if corpora:
            yield f"The pre-trained weights have heard {' and '.join(corpora)}."
    if lines:
        seeds = sorted({run.seed for line in lines for run in line.runs})
        yield (
            f"Seeds: {', '.join(map(str, seeds))}. The epoch, the temperature, and C and gamma of an SVM were chosen "
            "on the validation speakers of each fold, never on its test speakers."
        )


def results(scored: Scored) -> Section:
    """Tables 1 to 3, figure 8, and the comparisons."""
    blocks: list[Block] = [_pooled_figure(scored), _pooled_table(scored)]
    blocks.append(Bullets([scored.summaries[line.label].scores.sentence for line in scored.evaluation.networks]))
    sections = [
        Section("Comparisons", list(_comparison_blocks(scored))),
        Section("Over folds, as the paper reports it (Table 2, figure 8)", list(_fold_blocks(scored))),
    ]
    if scored.evaluation.corpus in paper.TABLE_3:
        sections.append(Section("Other methods (Table 3)", list(_others(scored))))
    sections.append(Section("The folds (Table 1)", list(_folds(scored))))
    return Section("Results", blocks, sections)


def random_split(scored: Scored, honest: Sequence[Scored]) -> list[Block]:
    """A speaker-dependent split, and what the leak is worth."""
    blocks: list[Block] = [
        Notice(
            f"{RANDOM_SPLIT.capitalize()} with anything else on this page. The test speakers were heard in training; "
            "these numbers show what such a split pretends."
        ),
        _over_folds_table(scored),
    ]
    premiums = []
    for line in scored.evaluation.scored:
        method = line.strategy.partition(",")[0]
        for other in honest:
            twin = next((one for one in other.evaluation.scored if one.strategy == method), None)
            if twin and (other.evaluation.corpus, other.evaluation.data_hash) == (
                scored.evaluation.corpus,
                scored.evaluation.data_hash,
            ):
                spreads = [_over_folds(scored, line.label), _over_folds(other, twin.label)]
                wa, uar = (points(spreads[0][key].mean - spreads[1][key].mean) for key in ("wa", "uar"))
                premiums.append(
                    f"{twin.label}: leak premium {wa} points of accuracy, {uar} of UAR, against "
                    f"{other.evaluation.scheme} folds ({RANDOM_SPLIT})."
                )
    return [*blocks, Bullets(premiums)] if premiums else blocks


def cross_corpus(scored: Scored) -> Section:
    """What networks of one corpus make of another."""
    protocol = scored.evaluation.runs[0].identity
    names = {key: CORPUS_NAMES.get(protocol[key], protocol[key]) for key in ("trained_on", "tested_on")}
    trained_on, tested_on = names.values()
    left_out = [
        f"{names[key]} left out {', '.join(f'{count} {emotion}' for emotion, count in emotions.items())}"
        for key, emotions in protocol["left_out"].items()
        if emotions
    ]
    folds = "; ".join(f"{line.label} of fold {_numbers(line.folds)}" for line in scored.evaluation.scored)
    blocks: list[Block] = [
        Paragraph(
            f"Trained on the training speakers of {trained_on} ({scored.evaluation.scheme}; {folds}), tested on every "
            f"recording of {tested_on} with an emotion that both have"
            + (f"; {'; '.join(left_out)}, which the other lacks" if left_out else "")
            + ". Not comparable with scores within a corpus."
        ),
        Bullets(list(_kind(scored))),
        _pooled_table(scored),
    ]
    return Section(f"From {trained_on} to {tested_on}", blocks)


def _over_folds(scored: Scored, label: str) -> dict[str, Spread]:
    return scored.summaries[label].scores.over_folds


def _pooled_figure(scored: Scored) -> Figure:
    rows = {label: percent(summary.scores.pooled.uar) for label, summary in scored.summaries.items()}
    chance = 100 / len(scored.emotions)
    told = "; ".join(f"{label} {interval(scored.summaries[label].scores.pooled.uar)}" for label in rows)
    drawing = figures.intervals(rows, {}, scored.looks, "UAR, %", chance)
    return Figure(
        "UAR of all test utterances together, with 95 % intervals by resampling speakers. See how wide the intervals "
        "are beside the distances between the dots: overlap alone decides nothing, the paired comparisons do.",
        [Panel(f"{scored.slug}-uar", f"UAR in percent with its interval: {told}.", drawing)],
    )


def _pooled_table(scored: Scored) -> Table:
    rows = []
    for line in scored.evaluation.scored:
        summary = scored.summaries[line.label]
        pooled = summary.scores.pooled
        deviation = summary.scores.over_seeds["uar"].standard_deviation
        rows.append(
            [
                line.label,
                scored.finished_folds(line),
                str(len(line.seeds)) + ("" if deviation is None else f" ({points(deviation)})"),
                str(pooled.utterances),
                *(interval(estimate) for estimate in (pooled.uar, pooled.wa, pooled.macro_f1)),
                f"{summary.calibration.ece:.3f}" if line.label in scored.confident else "-",
            ]
        )
    return Table(
        "All test utterances together, percent; in brackets 95 % intervals by resampling speakers, and beside several "
        "seeds the standard deviation of their UAR. ECE is the expected calibration error.",
        ["method", "folds", "seeds", "utterances", "UAR", "accuracy", "macro-F1", "ECE"],
        rows,
    )


def _comparison_blocks(scored: Scored) -> Iterator[Block]:
    if not scored.comparisons and not scored.against_yardsticks:
        yield Paragraph("Nothing to compare yet: no two methods have finished the same folds on the same recordings.")
        return
    where = _folds_in_words(scored.compared_folds)
    yield Paragraph(
        f"Paired, over {where}, which all methods here have finished: the answers of a speaker are exchanged between "
        "two methods or not (permutation), and p is corrected by Holm's method for all pairs of a list."
    )
    if scored.comparisons:
        yield Paragraph("The networks among themselves:")
        yield Bullets([one.sentence for one in scored.comparisons])
    if scored.against_yardsticks:
        yield Paragraph("The networks and the simple methods:")
        yield Bullets([one.sentence for one in scored.against_yardsticks])


def _fold_blocks(scored: Scored) -> Iterator[Block]:
    yield _over_folds_table(scored)
    published = paper.TABLE_2.get(scored.evaluation.corpus, {})
    ours = {label: [100 * value for value in _over_folds(scored, label)["wa"].values] for label in scored.informative}
    theirs = {name: (one.minimum, one.mean, one.maximum) for name, one in published.items()}
    told = "; ".join(f"{name} {min(v):.1f} to {max(v):.1f}" for name, v in ours.items())
    drawing = figures.fold_spread(ours, theirs, scored.looks, "accuracy, %")
    beside = ", and the paper's beside" if theirs else ""
    yield Figure(
        f"Figure 8: minimum, mean and maximum accuracy over folds{beside}. See how far folds lie apart: a fold tests "
        "two or three actors of RAVDESS, or nine of CREMA-D, so points between folds are points between people.",
        [Panel(f"{scored.slug}-figure-8", f"Accuracy over folds in percent: {told}.", drawing)],
    )


def _over_folds_table(scored: Scored) -> Table:
    published = paper.TABLE_2.get(scored.evaluation.corpus, {})
    lines = {label: list(group) for label, group in groupby(scored.evaluation.scored, lambda line: line.strategy)}
    rows: list[list[str]] = []
    muted: list[int] = []
    for strategy in dict.fromkeys([*published, *lines] if not scored.evaluation.random_split else lines):
        for line in lines.get(strategy, ()):
            spread = _over_folds(scored, line.label)
            wa, uar = (_spread_cells(spread[key]) for key in ("wa", "uar"))
            rows.append([line.label, scored.finished_folds(line), *wa, uar[0], uar[3]])
            if strategy.partition(",")[0] == "human":
                rows.append([f"{line.label}, ties shared", scored.finished_folds(line), *_ties_shared(line)])
        if strategy in published and not scored.evaluation.random_split:
            one = published[strategy]
            numbers = (one.mean, one.minimum, one.maximum, one.standard_deviation)
            muted.append(len(rows))
            rows.append([f"{strategy}, the paper", "10 of 10", *(f"{number:.2f}" for number in numbers), "-", "-"])
    if scored.evaluation.corpus in paper.HUMAN_ACCURACY:
        muted.append(len(rows))
        accuracy = paper.HUMAN_ACCURACY[scored.evaluation.corpus]
        rows.append(["listeners, the paper", "-", f"{accuracy:.2f}", *"-----"])
    return Table(
        "Table 2: accuracy (mean, minimum, maximum and standard deviation over folds, the value of a fold being its "
        "mean over seeds) and UAR in percent. The paper's rows are its own numbers, from its own network and folds.",
        ["method", "folds", "accuracy", "min", "max", "std", "UAR", "std"],
        rows,
        muted,
    )


def _ties_shared(line: Line) -> list[str]:
    """Cells of table 2 for a vote whose ties count in part."""
    shape = {"ties_shared": {"wa": float, "uar": float}}
    metrics = [read_json(run.folder.metrics, "judge them again", shape)["ties_shared"] for run in line.finished]
    wa, uar = (_spread_cells(Spread.of(np.array([one[key] for one in metrics]))) for key in ("wa", "uar"))
    return [*wa, uar[0], uar[3]]


def _others(scored: Scored) -> Iterator[Block]:
    corpus = scored.evaluation.corpus
    rows = [[name, f"{accuracy:.2f}", "as the paper reports it"] for name, accuracy in paper.TABLE_3[corpus].items()]
    muted = list(range(len(rows)))
    for line in scored.evaluation.scored:
        accuracy = _over_folds(scored, line.label)["wa"].mean
        rows.append([line.label, points(accuracy), f"here, mean of {scored.finished_folds(line)} folds"])
    caption = (
        "Table 3: accuracy of other methods in percent. They were measured on other splits, some with the test "
        f"speakers heard in training, so the rows cannot be ranked. {paper.SLIPS_OF_TABLE_3[corpus]}"
    )
    yield Table(caption, ["method", "accuracy", "where"], rows, muted)


def _folds(scored: Scored) -> Iterator[Block]:
    evaluation = scored.evaluation
    published = scheme_of(evaluation.corpus, "published")
    sides: dict[int, dict[str, Any]] = {run.fold: run.identity for run in evaluation.runs}
    ours = {
        number: [speakers_in_words(identity.get(f"{side}_speakers", ())) for side in ("validation", "test")]
        for number, identity in sides.items()
    }
    if evaluation.folds:
        ours = {
            fold.number: [speakers_in_words(side) for side in (fold.validation, fold.test)]
            for fold in evaluation.folds.folds
        }
    theirs = {}
    if published:
        theirs = {
            fold.number: [speakers_in_words(side) for side in (fold.train, fold.validation, fold.test)]
            for fold in published.folds
        }
    columns = ["fold", f"{evaluation.scheme}: validation", f"{evaluation.scheme}: test"]
    if theirs:
        columns += ["the paper: train", "the paper: validation", "the paper: test"]
    rows = [
        [str(number), *ours.get(number, ["-"] * 2), *theirs.get(number, ["-"] * 3 if theirs else [])]
        for number in sorted({*ours, *theirs})
    ]
    note = " Whoever is on neither side of a fold trains." if evaluation.scheme == "complete" else ""
    yield Table(f"Table 1: speakers of each fold.{note}", columns, rows)
    notes = [*paper.SLIPS.get(evaluation.corpus, ()), *(evaluation.folds.notes if evaluation.folds else ())]
    if notes:
        yield Bullets(list(dict.fromkeys(notes)))


def interval(estimate: Estimate) -> str:
    """As in "49.8 [44.1, 55.3]", percent."""
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return points(estimate.value)
    return f"{points(estimate.value)} [{points(estimate.low)}, {points(estimate.high)}]"


def speakers_in_words(speakers: Sequence[str]) -> str:
    """Names without their corpus; numbers in ranges, as in "1-18, 22"."""
    names = [speaker.partition(":")[2] or speaker for speaker in speakers]
    if not all(name.isdecimal() and len(name) < LONGEST_NUMBER for name in names):
        return ", ".join(names)
    parts = []
    numbers = sorted(int(name) for name in names)
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        inside = [number for _, number in run]
        parts.append(f"{inside[0]}-{inside[-1]}" if len(inside) > 2 else ", ".join(map(str, inside)))
    return ", ".join(parts)


def percent(estimate: Estimate) -> Interval:
    """For a drawing."""
    low, high = (None if end is None else 100 * end for end in (estimate.low, estimate.high))
    return 100 * (estimate.value or 0.0), low, high


def _spread_cells(spread: Spread) -> list[str]:
    deviation = "-" if spread.standard_deviation is None else points(spread.standard_deviation)
    return [points(spread.mean), points(spread.minimum), points(spread.maximum), deviation]


def _folds_in_words(folds: Sequence[int]) -> str:
    return f"fold{'s' * (len(folds) != 1)} {_numbers(folds)}"


def _numbers(folds: Sequence[int]) -> str:
    return speakers_in_words([str(fold) for fold in folds])


def excluded_and_unreadable(scored: Scored) -> tuple[dict[str, str], dict[str, str]]:
    """Recordings that the runs left out, and those they could not read -> why."""
    found: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for line in scored.evaluation.scored:
        for run in line.finished:
            shape = {key: {str: str} for key in ("excluded", "unreadable")}
            metrics = read_json(run.folder.metrics, "train this run again", shape)
            for target, key in zip(found, shape, strict=True):
                target.update(metrics[key])
    return found
