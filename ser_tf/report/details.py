"""What the probabilities are worth, who is recognised worse, and how the trainings went."""

from collections.abc import Iterator

from ser_tf.report import figures
from ser_tf.report.confusions import slug
from ser_tf.report.document import Block, Bullets, Figure, Panel, Section, Table
from ser_tf.report.results import Scored, excluded_and_unreadable, interval
from ser_tf.statistics.scores import points

SHOWN_COVERAGE = (0.25, 0.5, 0.75, 1.0)


def confidence(scored: Scored) -> Section:
    """Reliability, and risk against coverage."""
    panels = []
    for label in scored.confident:
        summary = scored.summaries[label]
        curve = summary.calibration.curve
        title = f"{label}, ECE {summary.calibration.ece:.3f}"
        told = ", ".join(f"{100 * one.confidence:.0f} to {100 * one.accuracy:.0f}" for one in curve)
        panels.append(
            Panel(
                f"{scored.slug}-reliability-{slug(label)}",
                f"Reliability of {label}: mean confidence to percent named rightly, bin by bin: {told}.",
                figures.reliability_curve(curve, scored.looks[label], title),
            )
        )
    lines = {
        label: ([100 * share for share in curve.coverage], [100 * share for share in curve.risk])
        for label, curve in ((label, scored.summaries[label].risk_coverage) for label in scored.confident)
    }
    at = {label: _risk_at(scored, label) for label in lines}
    told = "; ".join(f"{label} {', '.join(risks)}" for label, risks in at.items())
    shares = ", ".join(f"{100 * share:.0f}" for share in SHOWN_COVERAGE)
    return Section(
        "What the probabilities are worth",
        [
            Figure(
                "Reliability on test speakers, in 15 bins of confidence; the area of a dot is its share of the "
                "utterances. On the dotted line a probability is a frequency; below it the network is too sure. One "
                "temperature was fitted on the validation speakers.",
                panels,
            ),
            Figure(
                "Errors among the utterances that are answered when the least confident ones are left out. See how far "
                "the curve falls to the left: a flat one says that the confidence tells nothing.",
                [
                    Panel(
                        f"{scored.slug}-risk-coverage",
                        f"Percent wrong when {shares} % are answered: {told}.",
                        figures.curves(lines, scored.looks, "answered, %", "wrong among them, %"),
                    )
                ],
            ),
            Table(
                "Percent wrong among the answered. AUROC: of a right and a wrong answer, how often the right one is "
                "the more confident; at 0.5 the confidence tells nothing, however small its calibration error. The "
                "SVM of an older run counts votes, so that nearly all its winners are about as confident.",
                ["method", *(f"{100 * share:.0f} % answered" for share in SHOWN_COVERAGE), "AUROC"],
                [[label, *risks, _auroc(scored, label)] for label, risks in at.items()],
            ),
        ],
    )


def speaker_groups(scored: Scored) -> Section:
    """By speaker, sex and age; and what the excluded recordings change."""
    telling = {label: scored.summaries[label].groups for label in scored.informative}
    by_speaker = {
        label: {name: 100 * one.uar for name, one in group.by_speaker.items()} for label, group in telling.items()
    }
    blocks: list[Block] = [Bullets([group.sentence for group in telling.values()])]
    if by_speaker:
        worst = "; ".join(f"{label}: {group.worst_speaker} worst" for label, group in telling.items())
        blocks.append(
            Figure(
                "UAR of each speaker, the hardest at the bottom (w woman, m man, where it is known). See how far "
                "people lie apart: this, not the number of utterances, is why the intervals are wide.",
                [
                    Panel(
                        f"{scored.slug}-speakers",
                        f"UAR by speaker in percent. {worst}.",
                        figures.speaker_dots(by_speaker, scored.demographics.sex, scored.looks),
                    )
                ],
            )
        )
    rows = [
        [
            label,
            f"{kind}: {name}",
            str(pooled.speakers),
            str(pooled.utterances),
            interval(pooled.uar),
            interval(pooled.wa),
        ]
        for label, group in telling.items()
        for kind, by_group in (("sex", group.sex), ("age", group.age_group))
        for name, pooled in by_group.items()
    ]
    if rows:
        blocks.append(
            Table(
                "By group of speakers, percent, with 95 % intervals by resampling the group's speakers.",
                ["method", "group", "speakers", "utterances", "UAR", "accuracy"],
                rows,
            )
        )
    notes = [f"{note[0].upper()}{note[1:]}." for note in scored.demographics.notes]
    return Section("Who is recognised worse", [*blocks, Bullets([*notes, *_left_out(scored)])])


def _left_out(scored: Scored) -> Iterator[str]:
    effects = [summary.exclusions for summary in scored.summaries.values()]
    yield from (effect.sentence for effect in effects if effect.tested)
    excluded, unreadable = excluded_and_unreadable(scored)
    if excluded:
        names = "; ".join(f"`{name}`: {reason}" for name, reason in sorted(excluded.items()))
        yield (
            f"Left out by the default exclusion list: {len(excluded)} ({names}). Scores with them need runs with "
            "`--keep-excluded`."
        )
    if unreadable:
        names = "; ".join(f"`{name}`: {reason}" for name, reason in sorted(unreadable.items()))
        yield f"Unreadable and left out: {len(unreadable)} ({names})."


def trainings(scored: Scored) -> Section | None:
    """The validation UAR of every run over its epochs; None where nothing was trained."""
    panels = []
    for line in scored.evaluation.lines:
        logs = {
            _run_name(line.seeds, run.fold, run.seed): [100 * value for value in run.log["validation_uar"]]
            for run in line.runs
            if "validation_uar" in run.log
        }
        if not logs:
            continue
        best = {name: values.index(max(values)) + 1 for name, values in logs.items()}
        told = "; ".join(f"{name} {max(values):.1f} in epoch {best[name]}" for name, values in logs.items())
        panels.append(
            Panel(
                f"{scored.slug}-training-{slug(line.label)}",
                f"Validation UAR of {line.label} over epochs; best: {told}.",
                figures.training(logs, best, "validation UAR, %", line.label),
            )
        )
    if not panels:
        return None
    caption = (
        "UAR on the validation speakers after each epoch, a line per run; the dot is the best epoch, which is kept. "
        "See where it stops rising, and how far folds lie apart. The best of many epochs flatters: it is no test score."
    )
    unfinished = [
        f"{line.label}, fold {run.fold}, seed {run.seed}: not finished, {len(run.log)} epochs so far"
        for line in scored.evaluation.lines
        for run in line.runs
        if not run.folder.finished
    ]
    blocks: list[Block] = [Figure(caption, panels)]
    return Section("Trainings", [*blocks, Bullets(unfinished)] if unfinished else blocks)


def _run_name(seeds: tuple[int, ...], fold: int, seed: int) -> str:
    return f"fold {fold}" if len(seeds) < 2 else f"fold {fold}, seed {seed}"


def _auroc(scored: Scored, label: str) -> str:
    auroc = scored.summaries[label].calibration.auroc
    return "-" if auroc is None else f"{auroc:.3f}"


def _risk_at(scored: Scored, label: str) -> list[str]:
    """Risk at each coverage of `SHOWN_COVERAGE`: that of the nearest larger one on the curve."""
    curve = scored.summaries[label].risk_coverage
    found = []
    for share in SHOWN_COVERAGE:
        place = next(index for index, covered in enumerate(curve.coverage) if covered >= share - 1e-9)
        found.append(points(curve.risk[place]))
    return found
