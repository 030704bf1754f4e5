"""Arrange the sections of a report, and list what is missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.joined import joined
from ser_tf.report.confusions import confusions
from ser_tf.report.details import confidence, speaker_groups, trainings
from ser_tf.report.document import Block, Bullets, Document, Notice, Paragraph, Section
from ser_tf.report.lead import lead, verdict
from ser_tf.report.noise import noise
from ser_tf.report.provenance import missing_data, provenance
from ser_tf.report.results import cross_corpus, random_split, results
from ser_tf.report.scored import Scored, scored_evaluation
from ser_tf.report.sources import Sources
from ser_tf.report.spaces import spaces
from ser_tf.report.sweeps import sweep


def compose(sources: Sources, recordings: Mapping[str, Corpus], report: Callable[[str], None]) -> Document:
    """Lay out a report.

    Args:
        sources: what `find_sources` found.
        recordings: name of a corpus -> its recordings.
        report: receives a line per step.

    Raises:
        UserError: predictions are damaged.
    """
    scored = []
    places = [(evaluation.corpus, evaluation.scheme) for evaluation in sources.evaluations if evaluation.scored]
    for evaluation in sources.evaluations:
        if evaluation.scored:
            report(f"{evaluation.corpus}, {evaluation.scheme}: {len(evaluation.runs)} runs")
            corpus = recordings_of(evaluation.corpus, recordings)
            has_twin = places.count((evaluation.corpus, evaluation.scheme)) > 1
            scored.append(scored_evaluation(evaluation, corpus.roots if corpus else (), has_twin=has_twin))
    honest = [one for one in scored if not one.evaluation.random_split and not one.evaluation.cross_corpus]
    missing: list[str] = []
    parts = [(one, _sections(one, recordings_of(one.evaluation.corpus, recordings), missing, report)) for one in honest]
    if len(parts) == 1:
        ((only, (first, *others)),) = parts
        sections = [replace(first, sections=_folded(first.sections)), *_folded(others)]
        opening = lead(only)
    else:
        sections = [Section(one.title, lead(one), _folded(own)) for one, own in parts]
        opening = [Paragraph(f"{one.title}{' (partial)' * one.partial}: {verdict(one)}") for one in honest]
    shown = len(sections)
    sections += [
        Section(f"{one.corpus}, random split (speaker-dependent, not comparable)", random_split(one, honest))
        for one in scored
        if one.evaluation.random_split
    ]
    sections += [cross_corpus(one) for one in scored if one.evaluation.cross_corpus]
    sections += [sweep(one, number) for number, one in enumerate(sources.sweeps, start=1)]
    sections += [noise(one, number) for number, one in enumerate(sources.noise_tests, start=1)]
    sections.append(provenance(sources))
    missing += missing_data(sources)
    if missing:
        sections.append(Section("What is missing here, and how to get it", [Bullets(missing)]))
    sections[shown:] = _folded(sections[shown:]) if honest else sections[shown:]
    return Document(_title(honest), opening or _without_scores(sources), sections)


def recordings_of(corpus: str, recordings: Mapping[str, Corpus]) -> Corpus | None:
    """The recordings of a corpus, or of joined known corpora if all are there; otherwise None."""
    parts = [recordings[name] for name in corpus.split("+") if name in recordings]
    if len(parts) < len(corpus.split("+")):
        return None
    return joined(parts) if len(parts) > 1 else parts[0]


def _folded(sections: Sequence[Section]) -> list[Section]:
    """Details: a browser shows their headings."""
    return [replace(section, folded=True) for section in sections]


def _sections(
    scored: Scored, corpus: Corpus | None, missing: list[str], report: Callable[[str], None]
) -> list[Section]:
    if corpus is not None:
        report(f"{scored.title}: embeddings")
    found = (
        results(scored),
        confusions(scored),
        confidence(scored),
        speaker_groups(scored),
        spaces(scored, corpus, missing),
        trainings(scored),
    )
    return [section for section in found if section is not None]


def _title(scored: Sequence[Scored]) -> str:
    corpora = list(dict.fromkeys(one.corpus for one in scored))
    return "Speech emotion recognition" + (f" on {' and '.join(corpora)}" if corpora else "")


def _without_scores(sources: Sources) -> list[Block]:
    if sources.sweeps or sources.noise_tests or sources.evaluations:
        return [Paragraph("No evaluation within a corpus was given.")]
    return [Notice("No run is finished yet, so there is no result.")]
