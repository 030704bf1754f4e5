"""What a corpus is: its utterances, speakers and emotions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
"""Formats that are read; when an utterance is there in several, the earlier one is taken."""


UNREAD_SUFFIXES = (".aac", ".amr", ".ape", ".dss", ".ra", ".wma", ".wv")
"""Formats of audio that are not read: where a folder holds some, they are named."""


@dataclass(frozen=True)
class Utterance:
    """One recording of one sentence."""

    name: str
    """Unique in its corpus: the file name without suffix ("03-01-05-01-02-01-12"), or a table's path without suffix."""
    path: Path
    speaker: str
    """Corpus and speaker, as in "ravdess:12", "crema_d:1001", "synthetic:03", "table:anna"."""
    emotion: str


@dataclass(frozen=True)
class Exclusion:
    """An utterance that the default exclusion list takes out."""

    name: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """The utterances of one corpus, with what its labels mean."""

    name: str
    """"ravdess", "crema_d", "synthetic" or "table"."""
    root: Path
    """The directory, or the table's CSV file."""
    utterances: tuple[Utterance, ...]
    """Sorted by name."""
    emotions: tuple[str, ...]
    """Label order: the index is the class number."""
    polarities: tuple[str, ...]
    """Per emotion "negative", "positive" or "neutral"; "" where a table's own word has none."""
    exclusions: tuple[Exclusion, ...]
    """What is left out by default; already absent from `utterances`."""
    keep_excluded: bool = False
    """Whether the user asked for what would be left out by default."""

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    def counts(self) -> dict[str, Any]:
        """Numbers for a result: utterances, speakers, utterances of each emotion, and excluded ones."""
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
    """What has two emotions, so that neither label can be trusted; sorted by name.

    Args:
        groups: the utterances that hold one and the same recording, for each recording.
    """
    found = []
    for group in groups:
        if len({utterance.emotion for utterance in group}) > 1:
            said = " and ".join(f"{utterance.name} is {utterance.emotion}" for utterance in group)
            found += [Exclusion(utterance.name, f"one recording under two emotions: {said}") for utterance in group]
    return tuple(sorted(found, key=lambda exclusion: exclusion.name))


def check_variety(corpus: Corpus) -> Corpus:
    """Return the corpus when it has at least two emotions and two speakers.

    Raises:
        UserError: it has not, so nothing could be learnt or held out.
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
