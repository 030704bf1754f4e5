"""Results of an evaluation: tables 1 to 3 and figure 8 of the paper, and the comparisons."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ser_tf.corpora.folds import RANDOM_SPLIT
from ser_tf.documents import read_json
from ser_tf.report import figures, paper
from ser_tf.report.document import Block, Bullets, Figure, Notice, Panel, Paragraph, Section, Table
from ser_tf.report.evaluations import Line, scheme_of
from ser_tf.report.lead import kind_of_runs
from ser_tf.report.scored import Scored
from ser_tf.report.words import (
    corpus_name,
    folds_in_words,
    numbers_in_words,
    percent,
    speakers_in_words,
    spread_cells,
)
from ser_tf.statistics.scores import Spread, points, value_and_interval


def results(scored: Scored) -> Section:
    """Tables 1 to 3, figure 8 and the comparisons."""
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
    """A speaker-dependent split, and how much the leak adds to each method."""
    blocks: list[Block] = [
        Notice(
            f"{RANDOM_SPLIT.capitalize()} with anything else on this page. The methods were trained on the test "
            "speakers; these numbers show how optimistic such a split is."
        ),
        _over_folds_table(scored),
    ]
    same_data = (scored.evaluation.corpus, scored.evaluation.data_hash)
    premiums = []
    for line in scored.evaluation.scored:
        for other in honest:
            twin = next((one for one in other.evaluation.scored if one.strategy == line.method), None)
            if twin and (other.evaluation.corpus, other.evaluation.data_hash) == same_data:
                leaky, speaker_independent = _over_folds(scored, line.label), _over_folds(other, twin.label)
                wa, uar = (points(leaky[key].mean - speaker_independent[key].mean) for key in ("wa", "uar"))
                premiums.append(
                    f"{twin.label}: leak premium {uar} points of UAR, {wa} of accuracy, against "
                    f"{other.evaluation.scheme} folds ({RANDOM_SPLIT})."
                )
    return [*blocks, Bullets(premiums)] if premiums else blocks


def cross_corpus(scored: Scored) -> Section:
    """Networks trained on one corpus and tested on another."""
    protocol = scored.evaluation.runs[0].identity
    names = {key: corpus_name(protocol[key]) for key in ("trained_on", "tested_on")}
    trained_on, tested_on = names.values()
    left_out = [
        f"{count} {emotion} of {names[key]}"
        for key, emotions in protocol["left_out"].items()
        for emotion, count in emotions.items()
    ]
    folds = "; ".join(f"{line.label} of fold {numbers_in_words(line.folds)}" for line in scored.evaluation.scored)
    lacking = f" Left out, because the other corpus lacks the emotion: {', '.join(left_out)}." if left_out else ""
    blocks: list[Block] = [
        Paragraph(
            f"Trained on the training speakers of {trained_on} ({scored.evaluation.scheme}; {folds}), tested on every "
            f"recording of {tested_on} with an emotion that both have.{lacking} Not comparable with scores within a "
            "corpus."
        ),
        Bullets(list(kind_of_runs(scored))),
        _pooled_table(scored),
    ]
    return Section(f"From {trained_on} to {tested_on}", blocks)


def _over_folds(scored: Scored, label: str) -> dict[str, Spread]:
    return scored.summaries[label].scores.over_folds


def _pooled_figure(scored: Scored) -> Figure:
    uars = {label: summary.scores.pooled.uar for label, summary in scored.summaries.items()}
    chance = 100 / len(scored.emotions)
    drawing = figures.intervals(
        {label: percent(uar) for label, uar in uars.items()}, {}, scored.looks, "UAR, %", chance
    )
    numbers = "; ".join(f"{label} {value_and_interval(uar)}" for label, uar in uars.items())
    return Figure(
        "UAR of all test utterances together, with 95 % intervals from resampling speakers. Compare the width of the "
        "intervals with the distances between the dots. Whether intervals overlap decides nothing; the paired "
        "comparisons do.",
        [Panel(f"{scored.slug}-uar", f"UAR in percent with its interval: {numbers}.", drawing)],
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
                *(value_and_interval(estimate) for estimate in (pooled.uar, pooled.wa, pooled.macro_f1)),
                f"{summary.calibration.ece:.3f}" if line.label in scored.confident else "-",
                scored.finished_folds(line),
                str(len(line.seeds)) + ("" if deviation is None else f" ({points(deviation)})"),
                str(pooled.utterances),
            ]
        )
    return Table(
        "All test utterances together, in percent, with 95 % intervals from resampling speakers. ECE is the expected "
        "calibration error. Beside several seeds: the standard deviation of their UAR.",
        ["method", "UAR", "accuracy", "macro-F1", "ECE", "folds", "seeds", "utterances"],
        rows,
    )


def _comparison_blocks(scored: Scored) -> Iterator[Block]:
    if not scored.comparisons and not scored.against_yardsticks:
        yield Paragraph(_why_nothing_is_compared(scored))
        return
    yield Paragraph(
        f"Paired permutation tests over {folds_in_words(scored.compared_folds)}, which all methods here have finished: "
        "a permutation swaps the answers of two methods for some speakers. Holm's method corrects p for all pairs of "
        "a list."
    )
    if scored.comparisons:
        yield Paragraph("Networks with each other:")
        yield Bullets([one.sentence for one in scored.comparisons])
    if scored.against_yardsticks:
        yield Paragraph("Networks with simple methods:")
        yield Bullets([one.sentence for one in scored.against_yardsticks])


def _why_nothing_is_compared(scored: Scored) -> str:
    if not scored.evaluation.networks:
        return "No comparisons: they need a trained network; simple methods are not compared with each other."
    if len(scored.informative) < 2:
        return "No comparisons: they need a second method; the majority class does not count."
    if not scored.compared_folds:
        return "No comparisons yet: no fold has been finished by all methods here."
    return "No comparisons: the methods were tested on different recordings of the same folds."


def _fold_blocks(scored: Scored) -> Iterator[Block]:
    yield _over_folds_table(scored)
    published = paper.TABLE_2.get(scored.evaluation.corpus, {})
    ours = {label: [100 * value for value in _over_folds(scored, label)["wa"].values] for label in scored.informative}
    theirs = {name: (one.minimum, one.mean, one.maximum) for name, one in published.items()}
    numbers = "; ".join(f"{name} {min(v):.1f} to {max(v):.1f}" for name, v in ours.items())
    drawing = figures.fold_spread(ours, theirs, scored.looks, "accuracy, %")
    beside = ", next to the paper's" if theirs else ""
    yield Figure(
        f"Figure 8: minimum, mean and maximum accuracy over folds{beside}. Note how far folds lie apart: a fold tests "
        "two or three actors of RAVDESS, or nine of CREMA-D, so differences between folds are differences between "
        "people.",
        [Panel(f"{scored.slug}-figure-8", f"Accuracy over folds in percent: {numbers}.", drawing)],
    )


def _over_folds_table(scored: Scored) -> Table:
    is_random = scored.evaluation.random_split
    published = {} if is_random else paper.TABLE_2.get(scored.evaluation.corpus, {})
    lines = {strategy: list(group) for strategy, group in groupby(scored.evaluation.scored, lambda one: one.strategy)}
    rows: list[list[str]] = []
    muted: list[int] = []
    for strategy in dict.fromkeys([*published, *lines]):
        for line in lines.get(strategy, ()):
            folds = scored.finished_folds(line)
            rows.append([line.label, *_over_folds_cells(_over_folds(scored, line.label)), folds])
            if line.method == "human":
                rows.append([f"{line.label}, ties shared", *_over_folds_cells(_ties_shared(line)), folds])
        if strategy in published:
            one = published[strategy]
            numbers = (one.mean, one.minimum, one.maximum, one.standard_deviation)
            muted.append(len(rows))
            rows.append([f"{strategy}, the paper", "-", "-", *(f"{number:.2f}" for number in numbers), "10 of 10"])
    if scored.evaluation.corpus in paper.HUMAN_ACCURACY:
        muted.append(len(rows))
        accuracy = paper.HUMAN_ACCURACY[scored.evaluation.corpus]
        rows.append(["listeners, the paper", "-", "-", f"{accuracy:.2f}", *"----"])
    return Table(
        "Table 2: UAR (mean and standard deviation over folds) and accuracy (also minimum and maximum) in percent; the "
        "value of a fold is its mean over seeds. The paper's rows are its own numbers, from its own network and folds.",
        ["method", "UAR", "std", "accuracy", "min", "max", "std", "folds"],
        rows,
        muted,
    )


def _over_folds_cells(spreads: dict[str, Spread]) -> list[str]:
    """UAR with its deviation; accuracy with minimum, maximum and deviation."""
    mean, _, _, deviation = spread_cells(spreads["uar"])
    return [mean, deviation, *spread_cells(spreads["wa"])]


def _ties_shared(line: Line) -> dict[str, Spread]:
    """Scores over folds of votes in which a tie of n emotions counts as 1/n."""
    shape = {"ties_shared": {"wa": float, "uar": float}}
    metrics = [
        read_json(run.folder.metrics, "run ser-tf yardsticks again", shape)["ties_shared"] for run in line.finished
    ]
    return {key: Spread.of(np.array([one[key] for one in metrics])) for key in ("wa", "uar")}


def _others(scored: Scored) -> Iterator[Block]:
    corpus = scored.evaluation.corpus
    rows = [[name, f"{accuracy:.2f}", "as the paper reports it"] for name, accuracy in paper.TABLE_3[corpus].items()]
    muted = list(range(len(rows)))
    for line in scored.evaluation.scored:
        accuracy = _over_folds(scored, line.label)["wa"].mean
        rows.append([line.label, points(accuracy), f"here, mean of {scored.finished_folds(line)} folds"])
    caption = (
        "Table 3: accuracy of other methods in percent. They used other splits, some of which train on the test "
        f"speakers, so the rows cannot be ranked. {paper.SLIPS_OF_TABLE_3[corpus]}"
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
    note = " All other speakers are trained on." if evaluation.scheme == "complete" else ""
    yield Table(f"Table 1: speakers of each fold.{note}", columns, rows)
    notes = [*paper.SLIPS.get(evaluation.corpus, ()), *(evaluation.folds.notes if evaluation.folds else ())]
    if notes:
        yield Bullets(list(dict.fromkeys(notes)))
