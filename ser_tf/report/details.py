"""Sections on calibration, on groups of speakers, and on the course of training."""

from collections.abc import Iterator

from ser_tf.documents import read_json
from ser_tf.report import figures
from ser_tf.report.confusions import slug
from ser_tf.report.document import Block, Bullets, Figure, Panel, Section, Table
from ser_tf.report.scored import Scored
from ser_tf.statistics.scores import points, value_and_interval

SHOWN_COVERAGE = (0.25, 0.5, 0.75, 1.0)


def confidence(scored: Scored) -> Section:
    """Reliability, risk against coverage, and AUROC of the confidence."""
    panels = []
    for label in scored.confident:
        summary = scored.summaries[label]
        curve = summary.calibration.curve
        title = f"{label}, ECE {summary.calibration.ece:.3f}"
        pairs = ", ".join(f"{100 * one.confidence:.0f} to {100 * one.accuracy:.0f}" for one in curve)
        panels.append(
            Panel(
                f"{scored.slug}-reliability-{slug(label)}",
                f"Reliability of {label}: mean confidence to accuracy in percent, bin by bin: {pairs}.",
                figures.reliability_curve(curve, scored.looks[label], title),
            )
        )
    lines = {
        label: ([100 * share for share in curve.coverage], [100 * share for share in curve.risk])
        for label, curve in ((label, scored.summaries[label].risk_coverage) for label in scored.confident)
    }
    at = {label: _risk_at(scored, label) for label in lines}
    risks_in_words = "; ".join(f"{label} {', '.join(risks)}" for label, risks in at.items())
    shares = ", ".join(f"{100 * share:.0f}" for share in SHOWN_COVERAGE)
    return Section(
        "Calibration and confidence",
        [
            Figure(
                "Reliability on test speakers, in 15 bins of confidence; the area of a dot is its share of the "
                "utterances. On the dotted line confidence equals accuracy; below it the network is overconfident. One "
                "temperature was fitted on the validation speakers.",
                panels,
            ),
            Figure(
                "Errors among the answered utterances if the least confident ones are left out. The curve should fall "
                "to the left; if it is flat, confidence does not predict errors.",
                [
                    Panel(
                        f"{scored.slug}-risk-coverage",
                        f"Percent wrong when {shares} % are answered: {risks_in_words}.",
                        figures.curves(lines, scored.looks, "answered, %", "wrong among them, %"),
                    )
                ],
            ),
            Table(
                "Percent wrong among the answered utterances. AUROC: how often a right answer is more confident than "
                "a wrong one; at 0.5 confidence does not predict errors, however small the calibration error. The SVM "
                "of an older run counts votes, so nearly all its answers are equally confident.",
                ["method", *(f"{100 * share:.0f} % answered" for share in SHOWN_COVERAGE), "AUROC"],
                [[label, *risks, _auroc(scored, label)] for label, risks in at.items()],
            ),
        ],
    )


def speaker_groups(scored: Scored) -> Section:
    """UAR by speaker, sex and age, and the effect of excluded recordings."""
    groups = {label: scored.summaries[label].groups for label in scored.informative}
    by_speaker = {
        label: {name: 100 * one.uar for name, one in group.by_speaker.items()} for label, group in groups.items()
    }
    blocks: list[Block] = [Bullets([group.sentence for group in groups.values()])]
    if by_speaker:
        worst = "; ".join(f"{label}: {group.worst_speaker} worst" for label, group in groups.items())
        blocks.append(
            Figure(
                "UAR of each speaker, the lowest at the bottom (w woman, m man, if known). The differences between "
                "people, not the number of utterances, make the intervals wide.",
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
            value_and_interval(pooled.uar),
            value_and_interval(pooled.wa),
            str(pooled.speakers),
            str(pooled.utterances),
        ]
        for label, group in groups.items()
        for kind, by_group in (("sex", group.sex), ("age", group.age_group))
        for name, pooled in by_group.items()
    ]
    if rows:
        blocks.append(
            Table(
                "By group of speakers, in percent, with 95 % intervals from resampling the group's speakers.",
                ["method", "group", "UAR", "accuracy", "speakers", "utterances"],
                rows,
            )
        )
    notes = [f"{note[0].upper()}{note[1:]}." for note in scored.demographics.notes]
    return Section("Who is recognised worse", [*blocks, Bullets([*notes, *_left_out(scored)])])


def _left_out(scored: Scored) -> Iterator[str]:
    effects = [summary.exclusions for summary in scored.summaries.values()]
    yield from (effect.sentence for effect in effects if effect.tested)
    excluded, unreadable = _excluded_and_unreadable(scored)
    if excluded:
        names = "; ".join(f"`{name}`: {reason}" for name, reason in sorted(excluded.items()))
        yield (
            f"Left out by the default exclusion list: {len(excluded)} ({names}). Use `--keep-excluded` to keep them."
        )
    if unreadable:
        names = "; ".join(f"`{name}`: {reason}" for name, reason in sorted(unreadable.items()))
        yield f"Unreadable and left out: {len(unreadable)} ({names})."


def _excluded_and_unreadable(scored: Scored) -> tuple[dict[str, str], dict[str, str]]:
    """Recordings that the runs excluded, and those they could not read: name -> reason."""
    found: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for line in scored.evaluation.scored:
        for run in line.finished:
            shape = {key: {str: str} for key in ("excluded", "unreadable")}
            metrics = read_json(run.folder.metrics, "train this run again", shape)
            for target, key in zip(found, shape, strict=True):
                target.update(metrics[key])
    return found


def trainings(scored: Scored) -> Section | None:
    """Validation UAR of every run over its epochs; None if nothing was trained."""
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
        maxima = "; ".join(f"{name} {max(values):.1f} in epoch {best[name]}" for name, values in logs.items())
        panels.append(
            Panel(
                f"{scored.slug}-training-{slug(line.label)}",
                f"Validation UAR of {line.label} over epochs; best: {maxima}.",
                figures.training(logs, best, "validation UAR, %", line.label),
            )
        )
    if not panels:
        return None
    caption = (
        "UAR on the validation speakers after each epoch, a line per run; the dot marks the best epoch, which is kept. "
        "Note where it stops rising, and how far folds lie apart. The best of many epochs is optimistic and is not a "
        "test score."
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
    """Risk at each coverage of `SHOWN_COVERAGE`, or at the next larger one on the curve."""
    curve = scored.summaries[label].risk_coverage
    pairs = list(zip(curve.coverage, curve.risk, strict=True))
    return [points(next(risk for covered, risk in pairs if covered >= share - 1e-9)) for share in SHOWN_COVERAGE]
