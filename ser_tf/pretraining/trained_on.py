"""The speakers and corpora that a pre-training uses."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ser_tf.corpora.facts import facts_of
from ser_tf.errors import UserError


def excluded_speakers(speakers: Collection[str], names: Iterable[str]) -> set[str]:
    """Select the speakers to leave out.

    Args:
        speakers: all speakers, as "corpus:id".
        names: speakers, as "ravdess:12", or whole corpora, as "ravdess:*".

    Raises:
        UserError: a name selects nobody.
    """
    excluded: set[str] = set()
    for name in names:
        corpus = name.removesuffix("*") if name.endswith(":*") else None
        found = {speaker for speaker in speakers if speaker == name or (corpus and speaker.startswith(corpus))}
        if not found:
            example = next(iter(speakers), "corpus:id")
            raise UserError(
                f"exclude_speakers: expected speakers such as {example}, or {example.partition(':')[0]}:* for a whole "
                f"corpus. Received: {name}, which matches none of the {len(speakers)} speakers"
            )
        excluded |= found
    return excluded


def corpora_trained_on(recordings: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Summarise each corpus: licence, number of speakers and of recordings.

    Args:
        recordings: speaker trained on -> number of recordings.
    """
    speakers, totals = Counter[str](), Counter[str]()
    for speaker, count in recordings.items():
        corpus = speaker.partition(":")[0]
        speakers[corpus] += 1
        totals[corpus] += count
    return {
        corpus: {"licence": facts_of(corpus).licence, "speakers": speakers[corpus], "recordings": totals[corpus]}
        for corpus in sorted(speakers)
    }
