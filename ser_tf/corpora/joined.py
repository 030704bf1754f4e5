"""Join several corpora, and select emotions."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ser_tf.corpora.corpus import EMOTIONS, Corpus, check_variety, is_table
from ser_tf.corpora.speakers import identities
from ser_tf.errors import UserError
from ser_tf.spelling import voice


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
        UserError: no corpus has one of the emotions, or a corpus keeps fewer than two emotions or two speakers.
    """
    spoken = {utterance.emotion for corpus in corpora for utterance in corpus.utterances}
    for emotion in emotions:
        if emotion not in spoken:
            raise UserError(f"emotions: expected some of {', '.join(sorted(spoken))}. Received: {emotion}")
    kept = []
    for corpus in corpora:
        utterances = tuple(utterance for utterance in corpus.utterances if utterance.emotion in emotions)
        left = Counter(utterance.emotion for utterance in utterances)
        if len(left) < 2:
            raise UserError(
                f"{corpus.root}: expected at least two of the emotions {', '.join(emotions)}, since a corpus with one "
                f"gives it away by its sound. Received: {', '.join(left) or 'none'}; choose more emotions, or leave "
                "this corpus out"
            )
        labels = [pair for pair in zip(corpus.emotions, corpus.polarities, strict=True) if pair[0] in emotions]
        counts = Counter(utterance.emotion for utterance in corpus.utterances)
        kept.append(
            check_variety(
                replace(
                    corpus,
                    utterances=utterances,
                    emotions=tuple(emotion for emotion, _ in labels),
                    polarities=tuple(polarity for _, polarity in labels),
                    left_out={emotion: counts[emotion] for emotion in corpus.emotions if emotion in counts - left},
                )
            )
        )
    return kept


def _named_apart(corpus: Corpus) -> Corpus:
    """The corpus; a table gets a name that distinguishes it from other tables."""
    check_variety(corpus)
    if not is_table(corpus.root):
        return corpus
    root = corpus.root.resolve()
    name = f"{root.parent.name}/{root.stem}"
    utterances = (
        replace(each, name=f"{name}/{each.name}", speaker=f"{name}:{each.speaker.partition(':')[2]}")
        for each in corpus.utterances
    )
    return replace(corpus, name=name, utterances=tuple(utterances))


def _refuse_twice(corpora: Sequence[Corpus]) -> None:
    """Refuse a corpus that is given twice, and a speaker of two corpora by the files' names."""
    named: dict[str, Corpus] = {}
    spoken: dict[str, tuple[Corpus, str]] = {}
    for corpus in corpora:
        twin = named.setdefault(corpus.name, corpus)
        if twin is not corpus:
            remedy = "rename one of the tables" if is_table(corpus.root) else "put the files of both into one folder"
            raise UserError(
                f"{corpus.root}: expected each corpus once. Received: {corpus.name} also from {twin.root}; "
                f"{'give it once' if twin.root == corpus.root else f'give one of them, or {remedy}'}"
            )
        for utterance in corpus.utterances:
            for name in identities(utterance):
                other, first = spoken.setdefault(voice(name), (corpus, utterance.speaker))
                if other is not corpus:
                    raise UserError(
                        f"{corpus.root}: expected a corpus without the speakers of {other.root}. Received: "
                        f"{utterance.path} of {utterance.speaker}, who is {first} there; leave one of the two out"
                    )
