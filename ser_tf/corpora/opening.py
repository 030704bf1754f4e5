"""Opens a corpus: which utterance, speaker and emotion a file is.

A corpus is recognised by its file names alone: any audio format, any nesting. A new corpus is one module that knows its
names (like `ravdess.py`) and one line in `KNOWN_CORPORA`.
"""

import os
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import yaml

from ser_tf.corpora import crema_d, emovo, nemo, ravdess, synthetic
from ser_tf.corpora.corpus import (
    AUDIO_SUFFIXES,
    POLARITIES,
    UNREAD_SUFFIXES,
    Corpus,
    Exclusion,
    Utterance,
    check_variety,
    is_table,
)
from ser_tf.errors import UserError


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
