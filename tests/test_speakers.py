import os
from pathlib import Path

import pytest

from ser_tf.corpora.corpus import Utterance
from ser_tf.corpora.speakers import find_recordings, identities, read_lists, recognise
from ser_tf.errors import UserError


def write(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def found(root: Path) -> set[tuple[str, str, bool]]:
    return {(recording.speaker, recording.name, recording.recognised) for recording in find_recordings(root)}


@pytest.mark.parametrize(
    ("path", "speaker"),
    [
        ("a/03-01-05-01-02-01-12.flac", "ravdess:12"),
        ("a/03-02-05-01-02-01-12.wav", "ravdess:12"),  # song: no utterance of the corpus, but the same actor
        ("a/01-01-05-01-02-01-12.m4a", "ravdess:12"),  # the sound of a video
        ("a/03-01-09-01-02-01-12.wav", "ravdess:12"),  # an unknown emotion
        ("a/1001_DFA_ANG_XX.wav", "crema_d:1001"),
        ("a/1040_ITH_SAD_X.wav", "crema_d:1040"),
        ("a/1001_DFA_XXX_XX.wav", "crema_d:1001"),
        ("a/syn-03-happy-01.wav", "synthetic:03"),
        ("train-clean-5/19/198/19-198-0000.flac", "librispeech:19"),
        ("mini/19/19-198-0000.ogg", "librispeech:19"),
        ("x/id10270/x6uYqmx31kE/00001.wav", "voxceleb1:id10270"),
        ("x/id00012/21Uxsk56VDQ/00001.m4a", "voxceleb2:id00012"),
    ],
)
def test_a_file_name_gives_the_speaker(path, speaker):
    assert recognise(Path(path))[0] == speaker


@pytest.mark.parametrize(
    "path",
    [
        "anna/take.wav",
        "19/198/19-198.wav",
        "anna/19-198-0000.wav",
        "anna/12-31-2023.wav",  # dates
        "12/31/12-31-2023.wav",
        "id10270/short/00001.wav",
        "id10270/x6uYqmx31kE/one.wav",
        "00001.wav",
    ],
)
def test_other_names_give_no_speaker(path):
    assert recognise(Path(path)) is None


def test_the_names_of_a_trial_list_are_those_of_voxceleb():
    assert recognise(Path("/data/test/wav/id10270/x6uYqmx31kE/00001.wav"))[1] == "id10270/x6uYqmx31kE/00001"


def test_a_folder_of_speakers_is_named_after_its_root(tmp_path):
    root = write(tmp_path / "Choir", "anna/a.wav", "anna/live/b.M4A", "bert/a.flac", "notes.txt", "bert/notes.txt")
    assert found(root) == {
        ("choir:anna", "anna/a", False),
        ("choir:anna", "anna/live/b", False),
        ("choir:bert", "bert/a", False),
    }


def test_a_known_corpus_is_recognised_before_the_layout(tmp_path):
    # The folders would make them `wrong:anna`, who could then be heard in training and in the test.
    root = write(tmp_path / "wrong", "anna/03-01-05-01-02-01-12.wav", "anna/19/19-198-0000.wav")
    assert found(root) == {
        ("ravdess:12", "03-01-05-01-02-01-12", True),
        ("librispeech:19", "19-198-0000", True),
    }


def test_a_date_as_file_name_leaves_the_speaker_to_the_folder(tmp_path):
    root = write(tmp_path / "diary", "anna/12-31-2023.wav", "bert/12-31-2023.wav", "bert/walk.wav")
    assert found(root) == {
        ("diary:anna", "anna/12-31-2023", False),
        ("diary:bert", "bert/12-31-2023", False),
        ("diary:bert", "bert/walk", False),
    }


def test_a_path_inside_the_speakers_folder_gives_the_speaker_too(tmp_path, monkeypatch):
    write(tmp_path, "19/198/19-198-0000.flac")
    monkeypatch.chdir(tmp_path / "19" / "198")
    assert recognise(Path("19-198-0000.flac")) == ("librispeech:19", "19-198-0000")


def test_a_recording_beside_the_speakers_has_none(tmp_path):
    assert found(write(tmp_path / "choir", "a.wav")) == {("", "a", False)}


def test_a_table_gives_its_speakers_and_known_names_keep_theirs(tmp_path):
    write(tmp_path, "own.wav", "03-01-05-01-02-01-12.wav")
    table = tmp_path / "table.csv"
    table.write_text("path,speaker,emotion\nown.wav,anna,sad\n03-01-05-01-02-01-12.wav,bert,happy\n")
    assert found(table) == {
        ("table:anna", "own", True),
        ("ravdess:12", "03-01-05-01-02-01-12", True),
    }


def test_a_renamed_speaker_of_a_table_has_both_names():
    actor = Utterance("x", Path("x/03-01-05-01-02-01-12.wav"), "table:bert", "happy")
    assert identities(actor) == {"table:bert", "ravdess:12"}
    assert identities(Utterance("x", Path("x.wav"), "table:bert", "happy")) == {"table:bert"}


def test_librispeechs_list_gives_the_sex(tmp_path):
    (tmp_path / "SPEAKERS.TXT").write_text(
        "; Some pipe(|) separated metadata\n;ID  |SEX| SUBSET           |MINUTES| NAME\n"
        "14   | F | train-clean-360  | 25.03 | Kristin LeMoine\n19   | M | train-clean-5    | 25.19 | A | B\n"
    )
    expected = {"librispeech:14": "female", "librispeech:19": "male"}
    assert read_lists(tmp_path).sex == expected
    (tmp_path / "train-clean-5").mkdir()
    assert read_lists(tmp_path / "train-clean-5").sex == expected


VOX1_LIST = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10003\tA.J._Buckley\tm\tIreland\tdev\n"


def test_voxcelebs_lists_give_sex_and_the_ids_of_the_first_release(tmp_path):
    (tmp_path / "vox1_meta.csv").write_text(VOX1_LIST)
    (tmp_path / "vox2_meta.csv").write_text("VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,f ,dev \n")
    root = write(tmp_path / "vox1" / "dev" / "wav", "A.J._Buckley/1zcIwhmdeo4/0000001.wav")
    assert read_lists(root).sex == {"voxceleb1:id10003": "male", "voxceleb2:id00012": "female"}
    told = {("voxceleb1:id10003", "id10003/1zcIwhmdeo4/0000001", True)}
    assert found(root) == found(tmp_path / "vox1") == told


def test_a_table_over_voxcelebs_first_release_goes_by_the_ids(tmp_path):
    (tmp_path / "vox1_meta.csv").write_text(VOX1_LIST)
    root = write(tmp_path / "wav", "A.J._Buckley/1zcIwhmdeo4/0000001.wav")
    (recording,) = root.rglob("*.wav")
    assert identities(Utterance("x", recording, "table:bert", "sad")) == {"table:bert", "voxceleb1:id10003"}


def test_voxcelebs_first_release_without_its_list_is_refused(tmp_path):
    # Named after folders, its speakers would be others than those of weights that were trained on their ids.
    root = write(tmp_path / "wav", "A.J._Buckley/1zcIwhmdeo4/0000001.wav")
    refused = (
        rf"^{root}/A\.J\._Buckley: expected an id such as id10003 over VoxCeleb's video 1zcIwhmdeo4\. Received: a name "
        r"whose id is in no list; put vox1_meta\.csv beside it or, if .* rename the folder 1zcIwhmdeo4$"
    )
    with pytest.raises(UserError, match=refused):
        found(root)
    (recording,) = root.rglob("*.wav")
    with pytest.raises(UserError, match=refused):
        identities(Utterance("x", recording, "table:bert", "sad"))


@pytest.mark.parametrize("session", ["field-notes", "session-one", "recordings1", "Interview-8", "monday-20th"])
def test_other_folders_of_eleven_letters_are_not_videos(session, tmp_path):
    root = write(tmp_path / "choir", f"anna/{session}/00001.wav")
    assert found(root) == {("choir:anna", f"anna/{session}/00001", False)}


@pytest.mark.parametrize("name", ["vox1_meta.csv", "vox2_meta.csv", "SPEAKERS.TXT"])
@pytest.mark.parametrize("content", ["", "14 | ? | x\n", "a\tb\n", "\xff\n"])
def test_a_damaged_list_is_reported(name, content, tmp_path):
    (tmp_path / name).write_text(content, encoding="latin-1")
    if name == "SPEAKERS.TXT" and not content:
        assert not read_lists(tmp_path).sex
        return
    with pytest.raises(UserError, match=f"^{tmp_path / name}: expected the publisher's list of speakers.*remove it$"):
        read_lists(tmp_path)


def test_a_root_that_is_not_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"absent: expected a directory of recordings or a CSV table.*nothing there"):
        found(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: expected a directory.*another file"):
        found(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_reported(tmp_path):
    locked = write(tmp_path / "choir", "anna/a.wav") / "anna"
    locked.chmod(0)
    with pytest.raises(UserError, match=f"{locked}: expected a readable directory. Received: Permission denied"):
        found(tmp_path / "choir")


def test_links_to_folders_are_not_followed(tmp_path):
    root = write(tmp_path / "choir", "anna/a.wav")
    (root / "anna" / "again").symlink_to(root)
    assert found(root) == {("choir:anna", "anna/a", False)}


def test_librispeech_beside_the_checkout(shared_data):
    recordings = found(shared_data / "librispeech_mini")
    assert len(recordings) == 28 * 9
    assert len({speaker for speaker, _, _ in recordings}) == 28
    assert all(speaker == f"librispeech:{name.split('-')[0]}" for speaker, name, _ in recordings)
