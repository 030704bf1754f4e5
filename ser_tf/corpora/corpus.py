"""What a corpus is: its utterances, speakers and emotions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_tf.errors import UserError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""The emotion words of the project, in RAVDESS's order of codes."""


POLARITIES: Mapping[str, str] = {
    "neutral": "neutral",
    "calm": "positive",
    "happy": "positive",
    "surprised": "positive",
    "sad": "negative",
    "angry": "negative",
    "fearful": "negative",
    "disgust": "negative",
}
"""Polarity of each emotion on Mikels' wheel (paper, figure 4)."""


PYAV_SUFFIXES = (".m4a", ".mp4", ".mov", ".3gp", ".webm", ".mka", ".mkv")
"""Formats that the extra `m4a` decodes."""


AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".sph", ".ogg", ".oga", ".opus", ".mp3"),
    *PYAV_SUFFIXES,
)
"""Formats that are read; of several files of an utterance, the one in the earlier format is used."""


UNREAD_SUFFIXES = (".aac", ".amr", ".ape", ".dss", ".ra", ".wma", ".wv")
"""Audio formats that are not read; an error message names such files."""


@dataclass(frozen=True)
class Utterance:
    """One recording of one sentence."""

    name: str
    """Unique in its corpus: usually the file name without suffix, "03-01-05-01-02-01-12"; in a table the path without
    suffix."""
    path: Path
    speaker: str
    """Corpus and speaker, as in "ravdess:12", "crema_d:1001", "synthetic:03", "table:anna"."""
    emotion: str


@dataclass(frozen=True)
class Exclusion:
    """An utterance that is left out by default."""

    name: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """The utterances of one corpus, or of several joined ones, and the meaning of their labels."""

    name: str
    """That of a known corpus, such as "ravdess", or "table"; joined with "+"."""
    root: Path
    """The directory, or the table's CSV file; for joined corpora the directory above all of them."""
    utterances: tuple[Utterance, ...]
    """Sorted by name."""
    emotions: tuple[str, ...]
    """Label order: the index is the class number."""
    polarities: tuple[str, ...]
    """Per emotion "negative", "positive" or "neutral"; "" where a table's own word has none."""
    exclusions: tuple[Exclusion, ...]
    """Utterances left out by default; `utterances` lacks them."""
    keep_excluded: bool = False
    """Whether the user asked to keep utterances that are left out by default."""
    parts: tuple["Corpus", ...] = ()
    """The corpora that it joins; empty for a single one."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Emotion that the user did not choose -> number of utterances; `utterances` lacks them."""

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    @property
    def roots(self) -> tuple[Path, ...]:
        """Root of each corpus in it."""
        return tuple(part.root for part in self.parts) or (self.root,)

    @property
    def composition(self) -> dict[str, Any]:
        """What a result records about joined corpora and chosen emotions; empty for one whole corpus."""
        corpora = {"corpora": {part.name: part.counts() for part in self.parts}} if self.parts else {}
        left_out = {"left_out_emotions": dict(self.left_out)} if self.left_out else {}
        return corpora | left_out

    def counts(self) -> dict[str, Any]:
        """Numbers of utterances, speakers, utterances of each emotion, and excluded utterances."""
        per_emotion = Counter(utterance.emotion for utterance in self.utterances)
        return {
            "utterances": len(self.utterances),
            "speakers": len(self.speakers),
            "emotions": {emotion: per_emotion[emotion] for emotion in self.emotions},
            "excluded": len(self.exclusions),
        }


def is_table(root: Path) -> bool:
    """Whether a path names a CSV table."""
    return root.suffix.lower() == ".csv" and not root.is_dir()


def contradictions(groups: Iterable[Sequence[Utterance]]) -> tuple[Exclusion, ...]:
    """Recordings with two emotions, of which neither can be trusted; sorted by name.

    Args:
        groups: for each recording, the utterances that hold it.
    """
    found = []
    for group in groups:
        if len({utterance.emotion for utterance in group}) > 1:
            labels = " and ".join(f"{utterance.name} is {utterance.emotion}" for utterance in group)
            found += [Exclusion(utterance.name, f"one recording under two emotions: {labels}") for utterance in group]
    return tuple(sorted(found, key=lambda exclusion: exclusion.name))


def check_variety(corpus: Corpus) -> Corpus:
    """Return the corpus if it has at least two emotions and two speakers.

    Raises:
        UserError: it has fewer, so nothing can be learnt or held out.
    """
    emotions = sorted({utterance.emotion for utterance in corpus.utterances})
    for what, values in (("emotions", emotions), ("speakers", corpus.speakers)):
        if len(values) < 2:
            received = ", ".join(values) or "none"
            raise UserError(
                f"{corpus.root}: expected at least two {what}. Received: {received} only "
                f"({len(corpus.utterances)} utterances of {corpus.name}); give the whole corpus"
            )
    return corpus
