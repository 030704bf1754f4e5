"""Find the speaker of each recording in any folder of speakers, as `corpus:id`.

The file name comes before the folders. Recordings of a known emotion corpus keep their speaker wherever they are copied
to. Those of LibriSpeech (`19/198/19-198-0000`, or without the chapter's folder) and VoxCeleb
(`id10270/x6uYqmx31kE/00001`) need their publishers' folders. All other files have the layout `root/<speaker>/**/*`, and
`corpus` is the name of the root folder.
"""

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

from ser_tf.corpora.corpus import AUDIO_SUFFIXES, Utterance, is_table
from ser_tf.corpora.demographics import CREMA_D_FILE, read_actors
from ser_tf.corpora.known import KNOWN_CORPORA
from ser_tf.errors import UserError

LIBRISPEECH = "librispeech"
VOXCELEB1 = "voxceleb1"
VOXCELEB2 = "voxceleb2"
RECOGNISED = frozenset({*(kind.name for kind in KNOWN_CORPORA), LIBRISPEECH, VOXCELEB1, VOXCELEB2})
"""Corpora whose speakers have one name everywhere; others are named after their folder or table."""
LISTS = ("vox1_meta.csv", "vox2_meta.csv", "SPEAKERS.TXT", CREMA_D_FILE)
"""The publishers' lists of speakers, in the root or in a folder above it."""
_FOLDERS_ABOVE = 3
"""VoxCeleb's root is `vox1/dev/wav`, and its list may lie beside `vox1`."""

_LIBRISPEECH_NAME = re.compile(r"(?P<reader>[1-9]\d{0,4})-[1-9]\d{0,6}-0\d{3}", re.ASCII)  # 12-31-2023 is a date
_VOXCELEB_SPEAKER = re.compile(r"id(?P<number>\d{5})", re.ASCII)
_VOXCELEB_VIDEO = re.compile(r"[\w-]{11}", re.ASCII)
_SURELY_A_VIDEO = re.compile(r"(?=[\w-]+[A-Z])[\w-]{10}[AEIMQUYcgkosw048]", re.ASCII)
"""YouTube's ids are 64 random bits, 6 in each character: the last one has 16 values. `field-notes` is none."""
_VOXCELEB_UTTERANCE = re.compile(r"\d{5,7}", re.ASCII)
_FIRST_OF_VOXCELEB1 = 10_000
"""VoxCeleb2 numbers its speakers below this, VoxCeleb1 above."""
_SEXES = {"f": "female", "m": "male"}


class SpeakerRecording(NamedTuple):
    """A file and its speaker."""

    path: Path
    name: str
    """Unique among the recordings of its corpus; equal for copies in several formats."""
    speaker: str
    """As in "voxceleb1:id10270"; empty if unknown."""
    recognised: bool
    """Whether the speaker comes from the file name or a table, not from the folder below the root."""


@dataclass(frozen=True)
class SpeakerLists:
    """The content of the publishers' lists.

    Attributes:
        sex: speaker -> "female" or "male".
        voxceleb1_id: name of a VoxCeleb1 speaker, which is the folder in its first release -> id.
    """

    sex: dict[str, str] = field(default_factory=dict)
    voxceleb1_id: dict[str, str] = field(default_factory=dict)


def recognise(path: Path) -> tuple[str, str] | None:
    """Speaker and name of a recording, from the names of the file and of the two folders above it.

    In VoxCeleb1's first release the folders have the speakers' names; the publisher's list gives their ids.

    Returns:
        None if it is not named like a recording of a known corpus.

    Raises:
        UserError: it is one of VoxCeleb, and no list gives the speaker's id.

    Example:
        >>> recognise(Path("anywhere/03-01-05-01-02-01-12.wav"))
        ('ravdess:12', '03-01-05-01-02-01-12')
        >>> recognise(Path("dev/aac/id00012/21Uxsk56VDQ/00001.m4a"))
        ('voxceleb2:id00012', 'id00012/21Uxsk56VDQ/00001')
    """
    for kind in KNOWN_CORPORA:
        name = kind.name_of(path)
        if speaker := kind.speaker(name):
            return speaker, name
    path = path.absolute()
    if (match := _LIBRISPEECH_NAME.fullmatch(path.stem)) and match["reader"] in path.parts[-3:-1]:
        return f"{LIBRISPEECH}:{match['reader']}", path.stem
    return _recognise_voxceleb(path)


def identities(utterance: Utterance) -> set[str]:
    """All names of an utterance's speaker: a table may rename a speaker of a known corpus."""
    recognised = recognise(utterance.path)
    return {utterance.speaker} | ({recognised[0]} if recognised else set())


def find_recordings(root: Path) -> Iterator[SpeakerRecording]:
    """Walk a folder of speakers, holding one folder's paths in memory at a time.

    Args:
        root: directory of recordings at any depth, or a CSV table (see `ser_tf.corpora.table`).

    Yields:
        Every audio file, in no particular order.

    Raises:
        UserError: the root is missing or no directory, a directory cannot be read, or a list of speakers is missing.
    """
    if is_table(root):
        from ser_tf.corpora.table import read_table

        for utterance in read_table(root).utterances:
            speaker, name = recognise(utterance.path) or (utterance.speaker, utterance.name)
            yield SpeakerRecording(utterance.path, name, speaker, recognised=True)
        return
    if not root.is_dir():
        received = "another file" if root.exists() else "nothing there"
        raise UserError(f"{root}: expected a directory of recordings or a CSV table. Received: {received}")
    corpus = root.resolve().name.lower()
    for path in _audio_files(root):
        recognised = recognise(path)
        relative = path.relative_to(root)
        if recognised:
            speaker, name = recognised
        else:
            speaker = f"{corpus}:{relative.parts[0]}" if len(relative.parts) > 1 else ""
            name = relative.with_suffix("").as_posix()
        yield SpeakerRecording(path, name, speaker, recognised is not None)


def read_lists(root: Path) -> SpeakerLists:
    """Read the publishers' lists of speakers in a root and in the three folders above it.

    Raises:
        UserError: a list is damaged.
    """
    lists = SpeakerLists()
    folders = (*reversed(root.resolve().parents[:_FOLDERS_ABOVE]), root)
    for folder, name in product(folders, LISTS):
        path = folder / name
        if not path.is_file():
            continue
        if name == CREMA_D_FILE:
            lists.sex.update({speaker: sex for speaker, (sex, _) in read_actors(path).items()})
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            if name == "SPEAKERS.TXT":
                _read_librispeech(lines, lists)
            else:
                _read_voxceleb(lines, lists, VOXCELEB1 if name == "vox1_meta.csv" else VOXCELEB2)
        except (OSError, ValueError, KeyError, IndexError, csv.Error) as error:
            raise UserError(
                f"{path}: expected the publisher's list of speakers. Received: {error!r}; fetch it again or remove it"
            ) from error
    return lists


def _recognise_voxceleb(path: Path) -> tuple[str, str] | None:
    """The same for an absolute path of VoxCeleb."""
    if len(path.parts) < 4:
        return None
    folder, video = path.parts[-3:-1]
    if not (_VOXCELEB_VIDEO.fullmatch(video) and _VOXCELEB_UTTERANCE.fullmatch(path.stem)):
        return None
    match = _VOXCELEB_SPEAKER.fullmatch(_voxceleb1_ids(path.parents[2]).get(folder, folder))
    if match:
        corpus = VOXCELEB1 if int(match["number"]) >= _FIRST_OF_VOXCELEB1 else VOXCELEB2
        return f"{corpus}:{match[0]}", f"{match[0]}/{video}/{path.stem}"
    if _SURELY_A_VIDEO.fullmatch(video):
        raise UserError(
            f"{path.parents[1]}: expected an id such as id10003 over VoxCeleb's video {video}. Received: a name whose "
            f"id is in no list; put vox1_meta.csv beside it or, if this is no VoxCeleb, rename the folder {video}"
        )
    return None


@cache
def _voxceleb1_ids(root: Path) -> dict[str, str]:
    return read_lists(root).voxceleb1_id


def _read_librispeech(lines: list[str], lists: SpeakerLists) -> None:
    """`14   | F | train-clean-360  | 25.03 | Kristin LeMoine`, and comments that begin with a semicolon."""
    for line in lines:
        if line.strip() and not line.startswith(";"):
            reader, sex, *_ = (cell.strip() for cell in line.split("|"))
            lists.sex[f"{LIBRISPEECH}:{reader}"] = _SEXES[sex.lower()]


def _read_voxceleb(lines: list[str], lists: SpeakerLists, corpus: str) -> None:
    """Columns `VoxCeleb1 ID`, `VGGFace1 ID`, `Gender` ..., between tabs in the first list and commas in the second."""
    rows = csv.reader(lines, delimiter="\t" if "\t" in lines[0] else ",")
    columns = {title.strip()[: len("VGGFace")]: place for place, title in enumerate(next(rows))}
    person, sex = columns["VGGFace"], columns["Gender"]
    for row in rows:
        if row:
            cells = [cell.strip() for cell in row]
            lists.sex[f"{corpus}:{cells[0]}"] = _SEXES[cells[sex].lower()]
            if corpus == VOXCELEB1:
                lists.voxceleb1_id[cells[person]] = cells[0]


def _audio_files(root: Path) -> Iterator[Path]:
    """Audio files below a directory, folder by folder; links to directories are not followed, as `os.walk` does."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(folder / entry.name)
                    elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES:  # noqa: PTH122 - a million times
                        yield folder / entry.name
        except OSError as error:
            raise UserError(f"{folder}: expected a readable directory. Received: {error.strerror}") from error
