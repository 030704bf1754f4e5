"""Which utterance, speaker and emotion a file is.

A corpus is recognised by its file names alone: any audio format, any nesting. A new corpus is one module that knows its
names (like `ravdess.py`) and one line in `KNOWN_CORPORA`.
"""

import os
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ser_tf.corpora import crema_d, emovo, nemo, ravdess, synthetic
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


@dataclass(frozen=True)
class CorpusKind:
    """How one corpus is recognised, and what its publisher put into it."""

    name: str
    emotions: tuple[str, ...]
    """Label order."""
    parse: Callable[[str], tuple[str, str] | None]
    """File name without suffix -> speaker and emotion; None when the name is none of the corpus's utterances;
    UserError when it is built like one and its emotion is unknown."""
    speaker_of: Callable[[str], str | None]
    """File name without suffix -> speaker of any recording of the publisher's, also one that `parse` leaves out."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Names of older releases -> today's."""
    published_names: Callable[[], frozenset[str]] = frozenset
    """Names of all utterances of the complete corpus; empty when it has no fixed content."""
    published_rate_hz: int | None = None


KNOWN_CORPORA: tuple[CorpusKind, ...] = (
    CorpusKind(ravdess.NAME, ravdess.EMOTIONS, ravdess.parse, ravdess.speaker_of, {}, ravdess.published_names, 48_000),
    CorpusKind(
        crema_d.NAME,
        crema_d.EMOTIONS,
        crema_d.parse,
        crema_d.speaker_of,
        crema_d.RENAMED,
        crema_d.published_names,
        16_000,
    ),
    CorpusKind(emovo.NAME, emovo.EMOTIONS, emovo.parse, emovo.speaker_of, published_rate_hz=48_000),
    CorpusKind(nemo.NAME, nemo.EMOTIONS, nemo.parse, nemo.speaker_of, published_rate_hz=24_000),
    CorpusKind(synthetic.NAME, synthetic.EMOTIONS, synthetic.parse, synthetic.speaker_of),
)


@dataclass(frozen=True)
class Listing:
    """What the file names in a directory say."""

    kind: CorpusKind
    files_of: Mapping[str, tuple[Utterance, ...]]
    """Utterance name -> it in each file that holds it; the first is the one that is used."""
    foreign: tuple[Path, ...]
    """Audio files that are no utterance of the corpus, or in a format that is not read."""
    unknown: Mapping[Path, str]
    """Audio files named like an utterance but with an unknown emotion -> what is wrong."""


def open_corpus(root: Path, *, keep_excluded: bool = False) -> Corpus:
    """Recognise the corpus in a directory, or read a table.

    Only names are looked at, so that opening is quick; `ser_tf.corpora.audit` reads the files.

    Args:
        root: directory of recordings at any depth, or a CSV table (see `ser_tf.corpora.table`).
        keep_excluded: keep the utterances on the default exclusion list (`exclusions.yaml`), and in training those
            that the corpus has under two emotions.

    Returns:
        The corpus. An utterance stored several times counts once: of its files the first in the order of
        `AUDIO_SUFFIXES`, then the least nested, then the first by path.

    Raises:
        UserError: nothing there, no known corpus or two of them, an unknown emotion, or a single speaker or emotion.
    """
    root = Path(root)
    if is_table(root):
        from ser_tf.corpora.table import read_table  # it builds on this module

        return check_variety(replace(read_table(root), keep_excluded=keep_excluded))
    listing = list_corpus(root)
    for path, problem in listing.unknown.items():
        raise UserError(f"{path}: {problem}. Rename or remove the file")
    exclusions = () if keep_excluded else exclusions_among(listing.kind.name, listing.files_of)
    excluded = {exclusion.name for exclusion in exclusions}
    corpus = Corpus(
        name=listing.kind.name,
        root=root,
        utterances=tuple(copies[0] for name, copies in listing.files_of.items() if name not in excluded),
        emotions=listing.kind.emotions,
        polarities=tuple(POLARITIES[emotion] for emotion in listing.kind.emotions),
        exclusions=exclusions,
        keep_excluded=keep_excluded,
    )
    return check_variety(corpus)


def is_table(root: Path) -> bool:
    """Whether a path names a CSV table."""
    return root.suffix.lower() == ".csv" and not root.is_dir()


def list_corpus(root: Path) -> Listing:
    """Find the files of the one corpus that a directory holds.

    Args:
        root: directory of recordings at any depth.

    Returns:
        The corpus, its files by utterance name (sorted), and the files that are none.

    Raises:
        UserError: not a directory, no audio in it, no known corpus or more than one.
    """
    files = _audio_files(root)
    readable = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    if not readable:
        formats = ", ".join(AUDIO_SUFFIXES)
        received = f"{len(files)} in other formats, such as {files[0].name}" if files else "a directory without any"
        raise UserError(f"{root}: expected recordings ({formats}). Received: {received}; check the path")
    found: dict[str, dict[str, list[Utterance]]] = {}
    unknown: dict[str, dict[Path, str]] = {}
    for path, kind in product(readable, KNOWN_CORPORA):
        try:
            parsed = kind.parse(path.stem)
        except UserError as error:
            unknown.setdefault(kind.name, {})[path] = str(error)
            continue
        if parsed is not None:
            speaker, emotion = parsed
            utterance = Utterance(kind.renamed.get(path.stem, path.stem), path, speaker, emotion)
            found.setdefault(kind.name, {}).setdefault(utterance.name, []).append(utterance)
    present = [kind for kind in KNOWN_CORPORA if kind.name in (found or unknown)]
    known = ", ".join(kind.name for kind in KNOWN_CORPORA)
    if not present:
        raise UserError(
            f"{root}: expected the file names of a known corpus ({known}). Received: {len(readable)} audio files with "
            f"other names, such as {readable[0].name}; describe them in a CSV table (columns path, speaker, emotion)"
        )
    if len(present) > 1:
        names = " and ".join(kind.name for kind in present)
        raise UserError(f"{root}: the directory holds both {names}; give one of them")
    kind = present[0]
    files_of = {name: tuple(utterances) for name, utterances in sorted(found.get(kind.name, {}).items())}
    problems = unknown.get(kind.name, {})
    taken = {utterance.path for copies in files_of.values() for utterance in copies} | problems.keys()
    return Listing(kind, files_of, tuple(path for path in files if path not in taken), problems)


def exclusions_among(corpus: str, names: Container[str]) -> tuple[Exclusion, ...]:
    """What the default exclusion list takes out of these utterances, sorted by name."""
    entries = yaml.safe_load(Path(__file__).with_name("exclusions.yaml").read_text()).get(corpus, [])
    listed = {name: entry["reason"] for entry in entries for name in entry["names"]}
    return tuple(Exclusion(name, listed[name]) for name in sorted(listed) if name in names)


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


def _audio_files(root: Path) -> list[Path]:
    """Audio files below a directory, in the order in which copies are preferred; last, those that are not read."""
    if not root.exists():
        raise UserError(f"{root}: expected a directory of recordings or a CSV table. Received: nothing there")
    if not root.is_dir():
        raise UserError(f"{root}: expected a directory of recordings or a CSV table. Received: another file")

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: expected a readable directory. Received: {error.strerror}")

    files = [Path(folder, name) for folder, _, names in os.walk(root, onerror=refuse) for name in names]
    order = {suffix: place for place, suffix in enumerate((*AUDIO_SUFFIXES, *UNREAD_SUFFIXES))}
    files = [path for path in files if path.suffix.lower() in order]
    return sorted(files, key=lambda path: (order[path.suffix.lower()], len(path.parts), path))
