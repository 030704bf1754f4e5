"""The opening of an evaluation: what was measured, the main result, and how the runs were made."""

from collections.abc import Iterator
from functools import partial

from ser_tf.config import PRESETS, TrainingConfig
from ser_tf.report.document import Block, Bullets, Notice, Paragraph
from ser_tf.report.evaluations import Line
from ser_tf.report.scored import Scored
from ser_tf.report.words import folds_in_words, preset_in_words
from ser_tf.statistics.comparison import SIGNIFICANCE_LEVEL
from ser_tf.statistics.scores import interval_in_words, points

SCHEME_NOTES = {
    "complete": "every speaker is tested once",
    "corrected": "the paper's Table 1 with the error in fold 2 corrected",
    "published": "the paper's Table 1 as printed, with its row labels corrected",
    "emobox": "six folds",
}


def lead(scored: Scored) -> list[Block]:
    """What was measured, on what, and the main result."""
    evaluation = scored.evaluation
    methods = ", ".join(line.label for line in evaluation.scored)
    number = f"{evaluation.fold_count} " if evaluation.fold_count else ""
    note = SCHEME_NOTES.get(evaluation.scheme, "a user's own scheme")
    blocks: list[Block] = [
        Paragraph(verdict(scored)),
        Paragraph(
            f"Measured: {methods}, on {len(evaluation.speakers)} speakers of {scored.corpus} in the {number}folds of "
            f"scheme `{evaluation.scheme}` ({note}). No method was trained on its test speakers."
        ),
    ]
    if scored.partial:
        states = "; ".join(f"{line.label} {scored.finished_folds(line)} folds" for line in evaluation.lines)
        blocks.append(
            Notice(
                f"This evaluation is partial: {states}. Do not compare numbers of different folds; only the "
                "comparisons below are over the same folds."
            )
        )
    blocks.append(Paragraph(main_result(scored)))
    if scored.comparisons:
        differing = sum(one.p_holm <= SIGNIFICANCE_LEVEL for one in scored.comparisons)
        finding = f"{differing} of {len(scored.comparisons)} pairs of trained networks differ significantly"
        if not differing:
            finding = "No difference between the trained networks is shown"
        blocks.append(Paragraph(f"{finding} (over {folds_in_words(scored.compared_folds)}; sentences below)."))
    return [*blocks, Bullets(list(kind_of_runs(scored)))]


def verdict(scored: Scored) -> str:
    """Which method is best, by how much, and against which simple method."""
    lines = scored.evaluation.scored
    best = {
        is_network: max((line for line in lines if line.network is is_network), key=partial(_uar, scored), default=None)
        for is_network in (True, False)
    }
    network, simple = best[True], best[False]
    word = "Best" if len({tuple(line.folds) for line in lines}) == 1 else "Highest so far"
    if network is None or simple is None:
        only = network or simple
        assert only is not None
        missing = "network was trained" if network is None else "simple method was tested"
        return f"{word}: {only.label}, {points(_uar(scored, only))} % UAR; no {missing} on these folds."
    ours, theirs = _uar(scored, network), _uar(scored, simple)
    if network.folds != simple.folds:
        return (
            f"Best network: {network.label}, {points(ours)} % UAR; best simple method: {simple.label}, "
            f"{points(theirs)} %. They have not finished the same folds, so the difference says nothing yet."
        )
    by = f"{points(abs(ours - theirs))} points"
    for one in scored.against_yardsticks:
        if (one.first, one.second) == (network.label, simple.label) and one.p_holm > SIGNIFICANCE_LEVEL:
            by += " (which chance may explain)"
    if ours > theirs:
        return (
            f"{word}: {network.label}, {points(ours)} % UAR, {by} above {simple.label}, the best simple method "
            f"({points(theirs)} %)."
        )
    return (
        f"No network beats the best simple method: {network.label}, {points(ours)} % UAR, is {by} below "
        f"{simple.label} ({points(theirs)} %)."
    )


def _uar(scored: Scored, line: Line) -> float:
    return scored.summaries[line.label].scores.pooled.uar.value or 0.0


def main_result(scored: Scored) -> str:
    """The highest UAR of a network and of a simple method, with intervals."""
    uar = partial(_uar, scored)
    sentences = []
    networks = scored.evaluation.networks
    if networks:
        best = max(networks, key=uar)
        sentences.append(
            f"Highest of {len(networks)} networks ({scored.finished_folds(best)} folds): "
            f"{scored.summaries[best.label].scores.sentence}"
        )
    yardsticks = [line for line in scored.evaluation.scored if not line.network]
    if yardsticks:
        best = max(yardsticks, key=uar)
        pooled = scored.summaries[best.label].scores.pooled
        sentences.append(
            f"Highest of {len(yardsticks)} simple methods ({scored.finished_folds(best)} folds): {best.label}, "
            f"{points(uar(best))} % UAR ({interval_in_words(pooled.uar, pooled.speakers)})."
        )
    return " ".join(sentences)


def kind_of_runs(scored: Scored) -> Iterator[str]:
    """How the networks were trained, a sentence each: preset, length, start, seeds."""
    lines = [line for line in scored.evaluation.lines if line.network]
    if not lines:
        yield "No network was trained: these are yardsticks, simple methods on the folds of the networks."
        return
    presets: dict[str, list[str]] = {}
    is_pilot = is_small = False
    for line in lines:
        config = line.runs[0].config
        name, _, changes = preset_in_words(config).partition("; ")
        is_pilot |= _is_shorter(config.training, PRESETS[name].training)
        is_small |= name != "paper"
        length = _length(config.training, from_weights=line.runs[0].identity["weights"] is not None)
        text = f"preset `{name}`" + (f" with `{changes}`" if changes else "") + f", {length}"
        presets.setdefault(text, []).append(line.label)
    if is_pilot:
        yield "These are pilots: their training is shorter than their preset's."
    if is_small:
        yield "The networks are smaller than the paper's."
    yield from (f"{', '.join(labels)}: {text}." for text, labels in presets.items())
    starts: dict[str, list[str]] = {}
    for line in lines:
        if line.strategy != "S1":
            starts.setdefault(line.runs[0].start, []).append(line.label)
    for start, labels in starts.items():
        yield f"{', '.join(labels)}: from {start}; the paper pre-trains on VoxCeleb2."
    for corpora in dict.fromkeys(line.runs[0].pretrained_on for line in lines):
        if corpora:
            yield f"The pre-trained weights were trained on {' and '.join(corpora)}."
    seeds = sorted({run.seed for line in lines for run in line.runs})
    epoch = "epoch, the " * any(line.runs[0].config.training.schedule == "step" for line in lines)
    yield (
        f"Seeds: {', '.join(map(str, seeds))}. The {epoch}temperature, and C and gamma of an SVM were chosen on the "
        "validation speakers of each fold, never on its test speakers."
    )


def _length(training: TrainingConfig, from_weights: bool) -> str:
    if training.schedule == "step":
        return f"at most {training.maximum_epochs} epochs"
    return f"{training.steps_of(from_weights)} steps"


def _is_shorter(training: TrainingConfig, recipe: TrainingConfig) -> bool:
    if training.schedule != recipe.schedule:
        return True
    if recipe.schedule == "step":
        return training.maximum_epochs < recipe.maximum_epochs
    return any(training.steps_of(from_weights) < recipe.steps_of(from_weights) for from_weights in (False, True))
