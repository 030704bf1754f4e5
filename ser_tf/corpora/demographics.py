"""Sex and age of the speakers, as far as a corpus's publisher tells them."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ser_tf.corpora import crema_d, ravdess
from ser_tf.errors import UserError

CREMA_D_FILE = "VideoDemographics.csv"
"""In the root of CREMA-D's repository; one row per actor."""
YOUNGEST_GROUPS = ("under 20", "20-29", "30-39", "40-49", "50-59")
OLDEST_GROUP = "60 and over"

_COLUMNS = ("ActorID", "Age", "Sex")
_SEXES = ("female", "male")


@dataclass(frozen=True)
class Demographics:
    """What is known of the speakers; one of whom nothing is known is in no group."""

    sex: dict[str, str]
    """Speaker -> "female" or "male"."""
    age_group: dict[str, str]
    """Speaker -> a decade, as in "30-39"."""
    notes: tuple[str, ...]
    """What is not known, and why."""


def demographics_of(corpus: str, speakers: Sequence[str], root: Path | None = None) -> Demographics:
    """Group speakers by sex and age.

    RAVDESS's odd actors are men; its ages are not published by actor. CREMA-D's are in `VideoDemographics.csv`, which
    is looked for in `root` and in the folder that holds it. Of other corpora nothing is known.

    Args:
        corpus: its name, as in `Corpus.name`.
        speakers: their names, as in "ravdess:12".
        root: the directory of the corpus; None where it is not at hand.

    Raises:
        UserError: CREMA-D's file is damaged.
    """
    if corpus == ravdess.NAME:
        actors = {speaker: speaker.partition(":")[2] for speaker in speakers}
        sex = {speaker: _SEXES[int(actor[-1]) % 2] for speaker, actor in actors.items() if actor.isdecimal()}
        return Demographics(sex, {}, ("no groups of age: RAVDESS does not publish them by actor",))
    if corpus != crema_d.NAME:
        return Demographics({}, {}, (f"no groups of sex and age: nothing is known of the speakers of {corpus}",))
    places = () if root is None else (root / CREMA_D_FILE, root.parent / CREMA_D_FILE)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        remedy = f"no groups of sex and age: {CREMA_D_FILE} does not lie in the folder of CREMA-D or above it"
        return Demographics({}, {}, (remedy,))
    told = read_actors(path)
    known = [speaker for speaker in speakers if speaker in told]
    unknown = [speaker for speaker in speakers if speaker not in told]
    return Demographics(
        sex={speaker: told[speaker][0] for speaker in known},
        age_group={speaker: age_group(told[speaker][1]) for speaker in known},
        notes=(f"in no group of sex or age, since {path} lacks them: {', '.join(unknown)}",) if unknown else (),
    )


def age_group(years: int) -> str:
    """The decade of an age; everybody of 60 and over is in one group.

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
