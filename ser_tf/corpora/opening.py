"""Open a corpus: find the utterance, speaker and emotion of each file.

File names identify a corpus, in any audio format and at any depth; see `ser_tf.corpora.known`.
"""

import os
import warnings
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

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
from ser_tf.corpora.kind import CorpusKind
from ser_tf.corpora.known import KNOWN_CORPORA
from ser_tf.errors import UserError


@dataclass(frozen=True)
class Listing:
    """The files of a directory, by their names."""

    kind: CorpusKind
    files_of: Mapping[str, tuple[Utterance, ...]]
    """Name -> the utterance in each of its files; the first file is used."""
    foreign: tuple[Path, ...]
    """Audio files that are no utterance of the corpus, or have a format that is not read."""
    unknown: Mapping[Path, str]
    """Audio file named like an utterance but with an unknown emotion -> the problem."""


def open_corpus(root: Path, *, keep_excluded: bool = False) -> Corpus:
    """Recognise the corpus in a directory, or read a table.

    This is quick, since it reads only names; `ser_tf.corpora.audit` reads the files.

    Args:
        root: directory of recordings at any depth, or a CSV table (see `ser_tf.corpora.table`).
        keep_excluded: keep utterances that are left out by default (`CorpusKind.exclusions`) and, in training,
            recordings with two emotions.

    Returns:
        The corpus. An utterance with several files counts once: by the first file in the order of `AUDIO_SUFFIXES`,
        then the least nested, then the first by path.

    Raises:
        UserError: no recordings, no known corpus or two of them, an unknown emotion, or a single speaker or emotion.

    Warns:
        UserWarning: audio files whose names are not of the corpus are left out.
    """
    root = Path(root)
    if is_table(root):
        from ser_tf.corpora.table import read_table  # it builds on this module

        return check_variety(replace(read_table(root), keep_excluded=keep_excluded))
    listing = list_corpus(root)
    for path, problem in listing.unknown.items():
        raise UserError(f"{path}: {problem}. Rename or remove the file")
    if listing.foreign:
        warnings.warn(
            f"left out: {len(listing.foreign)} audio files of {root} whose names are not of {listing.kind.written}, "
            f"such as {listing.foreign[0].name}; ser-tf audit lists them",
            stacklevel=1,
        )
    exclusions = () if keep_excluded else exclusions_among(listing.kind.name, listing.files_of)
    excluded = {exclusion.name for exclusion in exclusions}
    corpus = Corpus(
        name=listing.kind.name,
        root=root,
        utterances=tuple(copies[0] for name, copies in listing.files_of.items() if name not in excluded),
        emotions=listing.kind.emotions,
        polarities=tuple({**POLARITIES, **listing.kind.polarities}[emotion] for emotion in listing.kind.emotions),
        exclusions=exclusions,
        keep_excluded=keep_excluded,
    )
    return check_variety(corpus)


def list_corpus(root: Path) -> Listing:
    """Find the files of the one corpus that a directory holds.

    Args:
        root: directory of recordings at any depth.

    Returns:
        The corpus, its files by utterance name (sorted), and all other audio files.

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
        name = kind.name_of(path)
        try:
            parsed = kind.parse(name)
        except UserError as error:
            unknown.setdefault(kind.name, {})[path] = str(error)
            continue
        if parsed is not None:
            speaker, emotion = parsed
            found.setdefault(kind.name, {}).setdefault(name, []).append(Utterance(name, path, speaker, emotion))
    present = [kind for kind in KNOWN_CORPORA if kind.name in (found or unknown)]
    known = ", ".join(kind.name for kind in KNOWN_CORPORA)
    if not present:
        raise UserError(
            f"{root}: expected the file names of a known corpus ({known}). Received: {len(readable)} audio files with "
            f"other names, such as {readable[0].name}; describe them in a CSV table (columns path, speaker, emotion)"
        )
    if len(present) > 1:
        names = " and ".join(kind.name for kind in present)
        raise UserError(
            f"{root}: expected files of one corpus. Received: files of {names}; put each corpus into its own folder, "
            "or describe the files in a CSV table (columns path, speaker, emotion)"
        )
    kind = present[0]
    files_of = {name: tuple(utterances) for name, utterances in sorted(found.get(kind.name, {}).items())}
    problems = unknown.get(kind.name, {})
    taken = {utterance.path for copies in files_of.values() for utterance in copies} | problems.keys()
    return Listing(kind, files_of, tuple(path for path in files if path not in taken), problems)


def exclusions_among(corpus: str, names: Container[str]) -> tuple[Exclusion, ...]:
    """Those of the utterances that are left out by default, sorted by name; for joined corpora of any of them."""
    kinds = [kind for kind in KNOWN_CORPORA if kind.name in corpus.split("+")]
    listed = {name: reason for kind in kinds for name, reason in kind.exclusions.items()}
    return tuple(Exclusion(name, listed[name]) for name in sorted(listed) if name in names)


def _audio_files(root: Path) -> list[Path]:
    """Audio files below a directory: preferred copies first, formats that are not read last."""
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
