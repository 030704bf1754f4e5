"""Several corpora as one."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ser_tf.corpora import EMOTIONS, Corpus, check_variety, is_table
from ser_tf.errors import UserError


def joined(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus with the utterances of all, and every emotion that one of them has.

    Speakers stay `corpus:id`; those of a table, "table:anna", become "folder/table:anna".

    Raises:
        UserError: a speaker is in two of the corpora, two have different polarities of an emotion, or no two corpora
            share an emotion.
    """
    named = [_named_apart(corpus) for corpus in corpora]
    if len(named) == 1:
        return named[0]
    seen: dict[str, Corpus] = {}
    for corpus in named:
        for speaker in corpus.speakers:
            if speaker in seen:
                raise UserError(
                    f"{corpus.root}: expected a corpus without the speakers of {seen[speaker].root}. Received: "
                    f"{speaker} in both; give each corpus once"
                )
            seen[speaker] = corpus
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
                    f"Received: {polarity or 'none'} and {polarities[emotion] or 'none'}"
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
    )


def _named_apart(corpus: Corpus) -> Corpus:
    """The corpus, for a table under a name that tells it from other tables."""
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
