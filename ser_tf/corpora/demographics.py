"""Sex and age of speakers, as far as the publishers of their corpora state them."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ser_tf.corpora.known import KNOWN_CORPORA, crema_d
from ser_tf.errors import UserError

CREMA_D_FILE = "VideoDemographics.csv"
"""In the root of CREMA-D's repository; one row per actor."""
YOUNGEST_GROUPS = ("under 20", "20-29", "30-39", "40-49", "50-59")
OLDEST_GROUP = "60 and over"

_COLUMNS = ("ActorID", "Age", "Sex")
_SEXES = ("female", "male")


@dataclass(frozen=True)
class Demographics:
    """Sex and age of speakers. Speakers of unknown sex or age are in no group."""

    sex: dict[str, str]
    """Speaker -> "female" or "male"."""
    age_group: dict[str, str]
    """Speaker -> a decade, as in "30-39"."""
    notes: tuple[str, ...]
    """What is unknown, and why."""


def demographics_of(speakers: Sequence[str], roots: Sequence[Path] = ()) -> Demographics:
    """Group speakers by sex and age, as far as the publishers of their corpora state them.

    CREMA-D states them in `VideoDemographics.csv`, in a root or in the folder above it. For other corpora see
    `CorpusKind.sex_of` and `CorpusKind.ages`.

    Args:
        speakers: names, as in "ravdess:12".
        roots: directories of the corpora; empty if they are not available.

    Raises:
        UserError: CREMA-D's file is damaged.
    """
    of_corpus: dict[str, list[str]] = {}
    for speaker in speakers:
        of_corpus.setdefault(speaker.partition(":")[0], []).append(speaker)
    found = [_of_corpus(corpus, names, roots) for corpus, names in of_corpus.items()]
    return Demographics(
        sex={speaker: sex for part in found for speaker, sex in part.sex.items()},
        age_group={speaker: group for part in found for speaker, group in part.age_group.items()},
        notes=tuple(note for part in found for note in part.notes),
    )


def _of_corpus(corpus: str, speakers: Sequence[str], roots: Sequence[Path]) -> Demographics:
    if corpus == crema_d.NAME:
        return _of_crema_d(speakers, roots)
    kind = next((kind for kind in KNOWN_CORPORA if kind.name == corpus), None)
    ids = {speaker: speaker.partition(":")[2] for speaker in speakers}
    sex = {speaker: sex for speaker, name in ids.items() if kind and (sex := kind.sex_of(name))}
    ages = {speaker: age_group(kind.ages[name]) for speaker, name in ids.items() if kind and name in kind.ages}
    if not (kind and sex):
        return Demographics({}, {}, (f"no groups of sex and age: nothing is known of the speakers of {corpus}",))
    notes = () if ages else (f"no groups of age: {kind.written} does not publish them by speaker",)
    return Demographics(sex, ages, notes)


def _of_crema_d(speakers: Sequence[str], roots: Sequence[Path]) -> Demographics:
    places = [folder / CREMA_D_FILE for root in roots for folder in (root, root.parent)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        note = f"no groups of sex and age: {CREMA_D_FILE} is not in the folder of CREMA-D or above it"
        return Demographics({}, {}, (note,))
    stated = read_actors(path)
    known = [speaker for speaker in speakers if speaker in stated]
    unknown = [speaker for speaker in speakers if speaker not in stated]
    return Demographics(
        sex={speaker: stated[speaker][0] for speaker in known},
        age_group={speaker: age_group(stated[speaker][1]) for speaker in known},
        notes=(f"in no group of sex or age, since {path} lacks them: {', '.join(unknown)}",) if unknown else (),
    )


def age_group(years: int) -> str:
    """The decade of an age; one group holds all of 60 and over.

    Example:
        >>> age_group(29), age_group(74)
        ('20-29', '60 and over')
    """
    decade = max(years // 10 - 1, 0)
    return YOUNGEST_GROUPS[decade] if decade < len(YOUNGEST_GROUPS) else OLDEST_GROUP


def read_actors(path: Path) -> dict[str, tuple[str, int]]:
    """CREMA-D's speakers: name -> sex and age in years.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            for column in _COLUMNS:
                if column not in (rows.fieldnames or ()):
                    raise ValueError(f"no column {column!r}")
            return dict(_actor(row, rows.line_num) for row in rows)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path}: expected CREMA-D's table of actors ({', '.join(_COLUMNS)}). Received: {error}; "
            "download it again, or remove it to do without groups"
        ) from error


def _actor(row: dict[str, str | None], number: int) -> tuple[str, tuple[str, int]]:
    actor, age, sex = ((row[column] or "").strip() for column in _COLUMNS)
    if not age.isdecimal() or sex.lower() not in _SEXES:
        raise ValueError(f"Age={age!r} and Sex={sex!r} in row {number}")
    return f"{crema_d.NAME}:{actor}", (sex.lower(), int(age))
