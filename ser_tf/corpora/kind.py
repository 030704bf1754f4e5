"""What ser_tf knows of a published corpus: its file names, labels, licence and faults."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath


@dataclass(frozen=True)
class CorpusFacts:
    """What the publisher of a corpus states."""

    title: str
    licence: str
    terms: str
    """Conditions for passing on weights trained on the recordings."""
    speech: str
    """Who speaks, in which language, how."""


@dataclass(frozen=True)
class CorpusKind:
    """A published corpus. docs/corpora.md shows how to add one."""

    name: str
    """The first part of its speakers' names: "crema_d"."""
    written: str
    """Its name in prose: "CREMA-D"."""
    facts: CorpusFacts
    emotions: tuple[str, ...]
    """Label order."""
    parse: Callable[[str], tuple[str, str] | None]
    """Name of an utterance -> speaker and emotion; None if it is no utterance of the corpus. UserError if it is built
    like one but its emotion is unknown."""
    polarities: Mapping[str, str] = field(default_factory=dict)
    """Polarity of emotions that `ser_tf.corpora.corpus.POLARITIES` lacks."""
    name_of: Callable[[PurePath], str] = lambda path: path.stem
    """Path of a file -> name of the utterance: unique in the corpus, and the same for all copies and releases."""
    speaker_of: Callable[[str], str | None] | None = None
    """Name of any recording of the publisher, also one that `parse` rejects -> speaker. None if only utterances have
    one."""
    published_names: Callable[[], frozenset[str]] = frozenset
    """Names of all utterances of the complete corpus; empty if they are not known."""
    published_rate_hz: int | None = None
    exclusions: Mapping[str, str] = field(default_factory=dict)
    """Utterance left out by default -> reason."""
    known_faults: tuple[str, ...] = ()
    """Other faults of the published files and of copies in circulation, a sentence each."""
    sex_of: Callable[[str], str | None] = lambda speaker: None
    """Speaker without the corpus's name ("12") -> "female" or "male"; None if unknown."""
    ages: Mapping[str, int] = field(default_factory=dict)
    """Speaker without the corpus's name -> age in years."""

    def speaker(self, name: str) -> str | None:
        """The speaker of a recording by its name; None if the corpus has no such recording."""
        if self.speaker_of is not None:
            return self.speaker_of(name)
        parsed = self.parse(name)
        return parsed[0] if parsed else None


def parse_by(
    corpus: str, pattern: re.Pattern[str], emotions: Mapping[str, str]
) -> Callable[[str], tuple[str, str] | None]:
    """`CorpusKind.parse` of a corpus whose names a pattern describes.

    Args:
        corpus: the corpus's name.
        pattern: of a whole name, with groups `speaker` and `emotion`.
        emotions: what the group `emotion` can match -> emotion.

    Example:
        >>> pattern = re.compile(r"(?P<speaker>anna|bert)_(?P<emotion>joy|sad)")
        >>> parse = parse_by("studio", pattern, {"joy": "happy", "sad": "sad"})
        >>> parse("anna_joy")
        ('studio:anna', 'happy')
    """

    def parse(name: str) -> tuple[str, str] | None:
        match = pattern.fullmatch(name)
        return (f"{corpus}:{match['speaker']}", emotions[match["emotion"]]) if match else None

    return parse
