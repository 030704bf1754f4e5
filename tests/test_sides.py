"""The sides of a fold: no shared speaker or recording, and every emotion."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_tf.config import Config
from ser_tf.corpora.folds import load_scheme
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError
from ser_tf.experiments.splits import honest_splits, random_splits
from ser_tf.pipeline import prepare_speech
from ser_tf.pretraining.emotions import EmotionTask
from ser_tf.spelling import voice
from ser_tf.training.fold_task import FoldTask
from ser_tf.training.sides import without_contradictions

EMOTIONS = ("happy", "sad")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SER_TF_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def few(small) -> Config:
    """Batches of four."""
    return replace(small, training=replace(small.training, batch_size=4))


@pytest.fixture
def folder(tmp_path, rng) -> Path:
    """Two tones per emotion for each of the speakers a, b, c and d, such as `a-sad-1.wav`."""
    for speaker in "abcd":
        for emotion in EMOTIONS:
            for take in range(2):
                phases = 2 * np.pi * rng.uniform(100, 400) * np.arange(9600) / 16_000
                samples = 0.2 * np.sin(phases) + 0.1 * np.sin(3 * phases) + 0.02 * rng.normal(size=9600)
                soundfile.write(tmp_path / f"{speaker}-{emotion}-{take}.wav", samples, 16_000)
    return tmp_path


def table(folder: Path, *more: str, name: str = "table.csv", without: tuple[str, ...] = ()) -> Path:
    """A table of the tones and further rows, without files whose names begin with one of `without`."""
    files = sorted(path.name for path in folder.glob("?-*-?.wav"))
    rows = [f"{file},{file[0]},{file[2:-6]}" for file in files if not file.startswith(without)]
    path = folder / name
    path.write_text("\n".join(["path,speaker,emotion", *rows, *more]) + "\n")
    return path


def task(path: Path, few: Config, fold: int = 1) -> FoldTask:
    corpus = open_corpus(path)
    return FoldTask.make(corpus, load_scheme("complete", corpus), fold, "S3", few, None)


def splits(path: Path, deal=honest_splits):
    corpus = open_corpus(path)
    return deal(corpus, load_scheme("complete", corpus), prepare_speech(corpus.utterances, Config()))


def by_another_path(folder: Path) -> str:
    (folder / "link").symlink_to(folder, target_is_directory=True)
    return "link/a-sad-0.wav"


def copied(folder: Path) -> str:
    shutil.copy(folder / "a-sad-0.wav", folder / "copy.wav")
    return "copy.wav"


def in_another_format(folder: Path) -> str:
    soundfile.write(folder / "again.flac", *soundfile.read(folder / "a-sad-0.wav"))
    return "again.flac"


@pytest.mark.parametrize("again", [by_another_path, copied, in_another_format])
@pytest.mark.parametrize("speaker", ["b", "c"])
def test_a_recording_of_two_speakers_is_on_two_sides(folder, few, again, speaker):
    path = table(folder, f"{again(folder)},{speaker},sad")
    # Fold 1 tests a, validates on b and trains on c and d.
    message = r"table\.csv: fold 1: expected each recording on one side\. Received: .* of table:.*, the same reco"
    with pytest.raises(UserError, match=message) as refused:
        task(path, few)
    assert "a-sad-0.wav of table:a (test)" in str(refused.value)
    with pytest.raises(UserError, match=message):
        splits(path)


def test_a_recording_of_one_speaker_may_be_there_twice(folder, few):
    path = table(folder, f"{copied(folder)},a,sad")
    assert len(task(path, few).side(["table:a"]).speech) == 5
    assert len(splits(path)) == 4


def test_a_random_split_hears_speakers_twice_but_no_recording(folder):
    assert len(splits(table(folder), random_splits)) == 4
    # Seven copies of one recording are dealt over four folds, each of which tests its own share.
    names = [f"copy-{number}.wav" for number in range(7)]
    for name in names:
        shutil.copy(folder / "a-sad-0.wav", folder / name)
    with pytest.raises(UserError, match=r"random fold 1: expected each recording on one side\. Received: "):
        splits(table(folder, *(f"{name},a,sad" for name in names)), random_splits)


def test_speakers_of_a_known_corpus_are_told_by_their_files(tmp_path, few):
    """Two synthetic actors, each under two names of a table."""
    noise = np.random.default_rng(1)
    rows = []
    for name, actor in zip("abcd", (1, 1, 2, 2), strict=True):
        for emotion in EMOTIONS:
            for take in range(2):
                file = f"syn-0{actor}-{emotion}-{take + 2 * (name in 'bd'):02d}.wav"
                soundfile.write(tmp_path / file, 0.2 * noise.normal(size=9600), 16_000)
                rows.append(f"{file},{name},{emotion}")
    path = tmp_path / "names.csv"
    path.write_text("\n".join(["path,speaker,emotion", *rows]))
    message = (
        r"names\.csv: fold 1: expected each speaker on one side\. Received: .* of table:b \(validation\) and .* of "
        r"table:a \(test\), of the same speaker"
    )
    with pytest.raises(UserError, match=message):
        task(path, few)
    with pytest.raises(UserError, match="expected each speaker on one side"):
        splits(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("table:Anna", "table:anna"),
        ("table:01", "table:1"),
        ("table:speaker 007", "table:Speaker  7"),
        ("table:Jos\u00e9", "table:Jose\u0301"),
        ("table:STRASSE", "table:stra\u00dfe"),
        ("table:\uff41\uff11", "table:a1"),  # as Japanese keyboards write them
        ("table:an\u200bna", "table:anna"),  # an invisible space
        ("table: anna\u00a0", "table:anna"),
    ],
)
def test_spellings_of_one_speaker(one, other):
    assert voice(one) == voice(other)


@pytest.mark.parametrize(("one", "other"), [("table:1", "table:10"), ("table:anna", "table:hanna"), ("a:1", "b:1")])
def test_two_speakers(one, other):
    assert voice(one) != voice(other)


def test_a_recording_with_two_emotions_is_left_out_and_named(folder, few):
    path = table(folder, f"{copied(folder)},a,happy")
    with pytest.warns(UserWarning, match="under two emotions.*: a-sad-0 is sad and copy is happy"):
        made = task(path, few)
    assert [exclusion.name for exclusion in made.corpus.exclusions] == ["a-sad-0", "copy"]
    assert {file.utterance.name for file in made.side(["table:a"]).speech} == {"a-happy-0", "a-happy-1", "a-sad-1"}
    # What is left is the same data as a table without the two rows.
    assert made.prepared.data_hash == task(table(folder, without=("a-sad-0",)), few).prepared.data_hash
    kept = open_corpus(table(folder, "copy.wav,a,happy"), keep_excluded=True)
    prepared = prepare_speech(kept.utterances, few)
    assert without_contradictions(kept, prepared) == (kept, prepared)


def test_the_same_emotion_twice_is_no_contradiction(folder, few):
    corpus = open_corpus(table(folder, f"{copied(folder)},a,sad"))
    prepared = prepare_speech(corpus.utterances, few)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert without_contradictions(corpus, prepared) == (corpus, prepared)


def test_a_side_without_an_emotion_is_named_with_fold_and_speaker(folder, few, tmp_path):
    path = table(folder, without=("b-sad",))
    folds = tmp_path / "folds.yaml"
    folds.write_text("table: {own: {folds: {1: {test: a, validation: b}, 2: {test: b, validation: c}}}}")
    corpus = open_corpus(path)
    scheme = load_scheme("own", corpus, folds)
    message = r"table\.csv: fold 1: expected validation speakers .* Received: table:b without sad; choose other folds"
    with pytest.raises(UserError, match=message):
        FoldTask.make(corpus, scheme, 1, "S3", few, None)
    # Speaker b is tested on the emotion that there is.
    assert set(FoldTask.make(corpus, scheme, 2, "S3", few, None).side(["table:b"]).labels.tolist()) == {0}


def test_several_corpora_share_neither_speaker_nor_recording_with_what_is_held_out(folder, few, tmp_path):
    home = table(folder, name="home.csv", without=("c", "d"))
    abroad = table(folder, name="abroad.csv", without=("a", "b"))
    EmotionTask.of([open_corpus(home), open_corpus(abroad)], few)
    again = table(folder, f"{copied(folder)},c,sad", name="abroad.csv", without=("a", "b"))
    for excluded in ([], [f"{folder.name}/home:a"]):
        with pytest.raises(UserError, match=r"expected each recording on one side\. Received: .* the same record"):
            EmotionTask.of([open_corpus(home), open_corpus(again)], few, excluded)
