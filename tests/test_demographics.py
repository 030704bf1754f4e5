import re
from collections import Counter
from pathlib import Path

import pytest

from ser_tf.corpora.demographics import age_group, demographics_of
from ser_tf.errors import UserError

HEADER = '"ActorID","Age","Sex","Race","Ethnicity"'
ACTORS = ("crema_d:1001", "crema_d:1002")


@pytest.fixture
def demographics(tmp_path):
    path = tmp_path / "VideoDemographics.csv"
    path.write_text(
        f'{HEADER}\n1001,51,"Male","Caucasian","Not Hispanic"\n1002,21,"Female","Caucasian","Not Hispanic"\n'
    )
    return path


def test_odd_actors_of_ravdess_are_men():
    found = demographics_of(["ravdess:01", "ravdess:02", "ravdess:24"])
    assert found.sex == {"ravdess:01": "male", "ravdess:02": "female", "ravdess:24": "female"}
    assert found.age_group == {}
    assert found.notes == ("no groups of age: RAVDESS does not publish them by speaker",)


@pytest.mark.parametrize("inside", [".", "AudioWAV"])
def test_the_table_of_crema_d_lies_in_the_folder_or_above_it(demographics, inside):
    root = demographics.parent / inside
    root.mkdir(exist_ok=True)
    found = demographics_of(ACTORS, [root])
    assert found.sex == {"crema_d:1001": "male", "crema_d:1002": "female"}
    assert found.age_group == {"crema_d:1001": "50-59", "crema_d:1002": "20-29"}
    assert found.notes == ()


def test_the_published_table_knows_every_actor(shared_data):
    actors = [f"crema_d:{number}" for number in range(1001, 1092)]
    found = demographics_of(actors, [shared_data / "crema_d" / "AudioOGG"])
    assert Counter(found.sex.values()) == {"male": 48, "female": 43}  # Cao et al. 2014
    assert found.age_group.keys() == set(actors)
    assert found.notes == ()


@pytest.mark.parametrize("root_given", [True, False])
def test_without_the_table_there_are_no_groups_and_a_note(tmp_path, root_given):
    found = demographics_of(ACTORS, [tmp_path] if root_given else [])
    assert (found.sex, found.age_group) == ({}, {})
    assert found.notes == (
        "no groups of sex and age: VideoDemographics.csv is not in the folder of CREMA-D or above it",
    )


def test_of_other_corpora_nothing_is_known():
    found = demographics_of(["table:anna"])
    assert (found.sex, found.age_group) == ({}, {})
    assert found.notes == ("no groups of sex and age: nothing is known of the speakers of table",)


def test_an_actor_missing_from_the_table_is_named(demographics):
    found = demographics_of((*ACTORS, "crema_d:1003"), [demographics.parent])
    assert found.sex.keys() == found.age_group.keys() == set(ACTORS)
    assert found.notes == (f"in no group of sex or age, since {demographics} lacks them: crema_d:1003",)


@pytest.mark.parametrize(
    ("years", "group"),
    [
        (19, "under 20"),
        (20, "20-29"),
        (29, "20-29"),
        (30, "30-39"),
        (59, "50-59"),
        (60, "60 and over"),
        (74, "60 and over"),
    ],
)
def test_groups_of_age_are_decades(years, group):
    assert age_group(years) == group


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("", "no column 'ActorID'"),
        ("ActorID,Age\n1001,51\n", "no column 'Sex'"),
        (f"{HEADER}\n1001,51\n", "Age='51' and Sex='' in row 2"),
        (f"{HEADER}\n1001,old,Male,,\n", "Age='old' and Sex='Male' in row 2"),
        (f"{HEADER}\n1001,51,Male,,\n1002,21,M,,\n", "Age='21' and Sex='M' in row 3"),
    ],
)
def test_a_damaged_table_is_refused(demographics, text, received):
    demographics.write_text(text)
    message = f"{demographics}: expected CREMA-D's table of actors (ActorID, Age, Sex). Received: {received}"
    with pytest.raises(
        UserError, match=f"^{re.escape(message)}.*; download it again, or remove it to do without groups$"
    ):
        demographics_of(ACTORS, [demographics.parent])


def test_a_speaker_who_is_no_actor_of_ravdess_is_in_no_group():
    found = demographics_of(["ravdess:01", "ravdess:", "ravdess:x", "ravdess:25", "ravdess:" + "2" * 5000])
    assert found.sex == {"ravdess:01": "male"}


def test_speakers_of_several_corpora_are_grouped_together(demographics):
    speakers = ["ravdess:02", "emodb:03", "savee:DC", "tess:OAF", "emovo:m1", "urdu:SF2", "nemo:EB0", *ACTORS]
    found = demographics_of(speakers, [Path("elsewhere"), demographics.parent])
    women = {"ravdess:02", "tess:OAF", "urdu:SF2", "crema_d:1002"}
    assert {speaker for speaker, sex in found.sex.items() if sex == "female"} == women
    assert found.sex.keys() == {*speakers} - {"nemo:EB0"}
    assert found.age_group == {"tess:OAF": "60 and over", "crema_d:1001": "50-59", "crema_d:1002": "20-29"}
    assert found.notes == (
        *(f"no groups of age: {name} does not publish them by speaker" for name in ("RAVDESS", "EmoDB", "SAVEE")),
        *(f"no groups of age: {name} does not publish them by speaker" for name in ("EMOVO", "URDU")),
        "no groups of sex and age: nothing is known of the speakers of nemo",
    )
