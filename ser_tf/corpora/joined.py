"""Open several corpora as one, and select emotions."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ser_tf.corpora.corpus import EMOTIONS, Corpus, check_variety, is_table
from ser_tf.corpora.opening import open_corpus
from ser_tf.corpora.speakers import identities
from ser_tf.errors import UserError
from ser_tf.spelling import voice


def open_corpora(roots: Sequence[Path], emotions: Sequence[str] = (), *, keep_excluded: bool = False) -> Corpus:
    """Open one corpus, or several as one; the order of the roots does not matter.

    Args:
        roots: directories and tables, as for `open_corpus`.
        emotions: keep only these; empty for all emotions of any of the corpora.
        keep_excluded: as for `open_corpus`.

    Raises:
        UserError: no root, as `open_corpus`, or the corpora do not go together.
    """
    if not roots:
        raise UserError("corpus: expected at least one directory of recordings or CSV table. Received: none")
    corpora = [open_corpus(root, keep_excluded=keep_excluded) for root in roots]
    if emotions:
        corpora = with_emotions(corpora, emotions)
    return joined(sorted(corpora, key=_name_apart)) if len(corpora) > 1 else corpora[0]


def joined(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus with the utterances and emotions of all.

    Speakers stay `corpus:id`; those of a table, "table:anna", become "folder/table:anna".

    Raises:
        UserError: a corpus or a speaker is given twice, two corpora have different polarities of an emotion, or a
            corpus shares no emotion with the others.
    """
    named = [_named_apart(corpus) for corpus in corpora]
    if len(named) == 1:
        return named[0]
    _refuse_twice(named)
    spoken = [{utterance.emotion for utterance in corpus.utterances} for corpus in named]
    for place, corpus in enumerate(named):
        others = set().union(*spoken[:place], *spoken[place + 1 :])
        if not spoken[place] & others:
            raise UserError(
                f"{corpus.root}: expected an emotion that another of the corpora has: {', '.join(sorted(others))}. "
                f"Received: {', '.join(sorted(spoken[place]))} only; rename them in the table, or leave this corpus out"
            )
    polarities: dict[str, str] = {}
    for corpus in named:
        for emotion, polarity in zip(corpus.emotions, corpus.polarities, strict=True):
            if polarities.setdefault(emotion, polarity) != polarity:
                raise UserError(
                    f"{corpus.root}: expected the polarity that the other corpora give {emotion}. "
                    f"Received: {polarity or 'none'} and {polarities[emotion] or 'none'}; correct the column "
                    f"`polarity` of your table, or leave {emotion} out with --emotions"
                )
    known = [emotion for emotion in EMOTIONS if emotion in polarities]
    emotions = (*known, *sorted(polarities.keys() - set(EMOTIONS)))
    return Corpus(
        name="+".join(corpus.name for corpus in named),
        root=Path(os.path.commonpath([corpus.root.resolve() for corpus in named])),
        utterances=tuple(utterance for corpus in named for utterance in corpus.utterances),
        emotions=emotions,
        polarities=tuple(polarities[emotion] for emotion in emotions),
        exclusions=tuple(exclusion for corpus in named for exclusion in corpus.exclusions),
        keep_excluded=all(corpus.keep_excluded for corpus in named),
        parts=tuple(named),
        left_out=sum((Counter(corpus.left_out) for corpus in named), Counter()),
    )


def with_emotions(corpora: Sequence[Corpus], emotions: Sequence[str]) -> list[Corpus]:
    """Keep only the utterances of these emotions; `Corpus.left_out` counts the others.

    Raises:
        UserError: there are fewer than two emotions, no corpus has one of them, or a corpus keeps fewer than two
            emotions or two speakers.
    """
    spoken = {utterance.emotion for corpus in corpora for utterance in corpus.utterances}
    for emotion in emotions:
        if emotion not in spoken:
            raise UserError(f"emotions: expected some of {', '.join(sorted(spoken))}. Received: {emotion}")
    if len({*emotions}) < 2:
        raise UserError(f"emotions: expected at least two of {', '.join(sorted(spoken))}. Received: {emotions[0]} only")
    kept = []
    for corpus in corpora:
        utterances = tuple(utterance for utterance in corpus.utterances if utterance.emotion in emotions)
        present = {utterance.emotion for utterance in utterances}
        if len(present) < 2:
            raise UserError(
                f"{corpus.root}: expected at least two of the emotions {', '.join(emotions)}, so that the sound of the "
                f"corpus does not reveal its emotion. Received: {', '.join(present) or 'none'}; choose more emotions, "
                "or leave this corpus out"
            )
        labels = [pair for pair in zip(corpus.emotions, corpus.polarities, strict=True) if pair[0] in emotions]
        others = Counter(utterance.emotion for utterance in corpus.utterances if utterance.emotion not in emotions)
        kept.append(
            check_variety(
                replace(
                    corpus,
                    utterances=utterances,
                    emotions=tuple(emotion for emotion, _ in labels),
                    polarities=tuple(polarity for _, polarity in labels),
                    left_out={emotion: others[emotion] for emotion in corpus.emotions if emotion in others},
                )
            )
        )
    return kept


def _named_apart(corpus: Corpus) -> Corpus:
    """The corpus; a table gets a name that distinguishes it from other tables."""
    check_variety(corpus)
    if not is_table(corpus.root):
        return corpus
    name = _name_apart(corpus)
    utterances = (
        replace(each, name=f"{name}/{each.name}", speaker=f"{name}:{each.speaker.partition(':')[2]}")
        for each in corpus.utterances
    )
    return replace(corpus, name=name, utterances=tuple(utterances))


def _name_apart(corpus: Corpus) -> str:
    root = corpus.root.resolve()
    return f"{root.parent.name}/{root.stem}" if is_table(root) else corpus.name


def _refuse_twice(corpora: Sequence[Corpus]) -> None:
    """Refuse a corpus that is given twice, and a speaker of two corpora by the files' names."""
    named: dict[str, Corpus] = {}
    spoken: dict[str, tuple[Corpus, str]] = {}
    for corpus in corpora:
        twin = named.setdefault(corpus.name, corpus)
        if twin is not corpus:
            remedy = "rename one of the tables" if is_table(corpus.root) else "put the files of both into one folder"
            if twin.root.resolve() == corpus.root.resolve():
                remedy = "give it once"
            raise UserError(
                f"{corpus.root}: expected each corpus once. Received: {corpus.name} also from {twin.root}; {remedy}"
            )
        for utterance in corpus.utterances:
            for name in identities(utterance):
                other, first = spoken.setdefault(voice(name), (corpus, utterance.speaker))
                if other is not corpus:
                    raise UserError(
                        f"{corpus.root}: expected a corpus without the speakers of {other.root}. Received: "
                        f"{utterance.path} of {utterance.speaker}, who is {first} there; leave one of the two out"
                    )
