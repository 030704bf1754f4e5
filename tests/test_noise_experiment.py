"""Noise measurements: the same mixtures for all runs, regardless of other runs and earlier calls."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from ser_tf.audio.vad import Speech, voiced
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import Config
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError
from ser_tf.experiments import noise
from ser_tf.experiments.noise import NOISE_SEED, draw_talkers, heard_utterance, measure
from ser_tf.pipeline import prepare_speech
from ser_tf.pipeline.speech_cache import default_directory
from ser_tf.statistics.noise_folder import CLEAN, CONDITIONS, NoiseFolder

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Each run is loaded and traced once for all measurements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "load_run", cache(noise.load_run))
        yield


@pytest.fixture(scope="module")
def runs(shallow, finetuned):
    """Without and with ghosts, on fold 1, which tests speaker 1 and trains on 3 to 6."""
    return [finetuned(strategy).path for strategy in ("S1", "S3")]


@dataclass
class Watched:
    """A measurement with the talkers it used and the cache before and after it."""

    folder: NoiseFolder
    talkers: set[str]
    cached: dict[Path, bytes]
    cached_before: dict[Path, bytes]


@pytest.fixture(scope="module")
def watched(runs, tones, small, tmp_path_factory) -> Watched:
    corpus, talkers = open_corpus(tones), set()

    def drawn(*arguments):
        lines = draw_talkers(*arguments)
        talkers.update(item.utterance.speaker for items in lines for item in items)
        return lines

    def cached():
        return {path: path.read_bytes() for path in default_directory().rglob("*") if path.is_file()}

    prepare_speech(corpus.utterances, small)
    before = cached()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "draw_talkers", drawn)
        folder = measure(corpus, runs, tmp_path_factory.mktemp("noise") / "measured", print)
    return Watched(folder, talkers, cached(), before)


@pytest.fixture(scope="module")
def measured(watched) -> NoiseFolder:
    return watched.folder


@pytest.fixture(scope="module")
def speech(shallow, tones, small):
    """The prepared utterances by speaker."""
    items = prepare_speech(open_corpus(tones).utterances, small).items
    return {
        speaker: [item for item in items if item.utterance.speaker == f"table:{speaker}"] for speaker in range(1, 7)
    }


@pytest.fixture(scope="module")
def talkers(speech):
    return {f"table:{speaker}": speech[speaker] for speaker in range(3, 7)}


def counts_of(folder: NoiseFolder) -> pd.DataFrame:
    rows = folder.read_rows()
    return rows.astype(dict.fromkeys(("utterances", "correct", "clean_correct"), int))


def test_without_noise_a_run_repeats_its_predictions(measured, finetuned):
    rows = counts_of(measured)
    clean = rows[rows["noise"] == "none"]
    for strategy in ("S1", "S3"):
        with finetuned(strategy).predictions.open(newline="") as file:
            tested = [row for row in csv.DictReader(file) if row["side"] == "test"]
        expected = Counter(row["truth"] for row in tested if row["truth"] == row["prediction"])
        own = clean[clean["strategy"] == strategy].set_index("emotion")
        assert own["utterances"].to_dict() == {"happy": 4, "sad": 4, "angry": 4}
        assert own["correct"].to_dict() == {"happy": 0, "sad": 0, "angry": 0} | expected
        assert measured.read_about()["runs"][f"{strategy}-fold1-seed0"]["clean_as_in_predictions"] == len(tested)


def test_every_utterance_is_tested_in_every_condition(measured):
    rows = counts_of(measured)
    assert list(dict.fromkeys(zip(rows["noise"], rows["portion"], rows["snr_db"], strict=True))) == [
        (one.noise, one.portion, "" if one.snr_db is None else str(one.snr_db)) for one in CONDITIONS
    ]
    # 12 tones of speaker 1; `clean_correct` does not depend on the noise.
    for strategy in ("S1", "S3"):
        by_condition = rows[rows["strategy"] == strategy].groupby(["noise", "portion", "snr_db"])
        assert (by_condition["utterances"].sum() == 12).all()
        assert by_condition["clean_correct"].sum().nunique() == 1
    assert (rows["correct"] <= rows["utterances"]).all()
    assert set(rows["descriptors"]) == {"3+"}


def test_only_networks_with_ghosts_have_ghost_shares(measured):
    rows = measured.read_rows()
    shares = ["ghost_share", "ghost_share_noisy", "ghost_share_clean"]
    assert (rows.loc[rows["strategy"] == "S1", [*shares, "both_halves"]] == "").all(axis=None)
    own = rows[rows["strategy"] == "S3"]
    assert own["ghost_share"].astype(float).between(0, 1, inclusive="neither").all()
    half = own["portion"] == "half"
    assert (own.loc[half, shares] != "").all(axis=None)
    assert (own.loc[half, "both_halves"] == own.loc[half, "utterances"]).all()
    assert (own.loc[~half, shares[1:]] == "").all(axis=None)


def test_ghost_shares_of_halves_skip_descriptors_in_both(small):
    # The shallow network has a descriptor per 4 frames of 160 samples, each frame of 512: they span 0-992, 640-1632,
    # 1280-2272 and 1920-2912. Noise up to 1700 covers the first two, and the last is the only one beyond it.
    shares = np.array([0.1, 0.3, 0.9, 0.5])
    assert noise._shares_of_halves(shares, slice(0, 1700), small) == pytest.approx((0.2, 0.5))
    assert noise._shares_of_halves(shares, slice(1700, 3000), small) == pytest.approx((0.5, 0.2))
    assert np.isnan(noise._shares_of_halves(shares, slice(0, 500), small)).all()


@pytest.fixture
def mixtures(monkeypatch):
    """Collects the input of silence removal, which here keeps everything."""
    heard = []

    def keep_all(waveform, config, name):
        heard.append(waveform)
        return Speech(np.rint(waveform * 32_768).astype(np.int16), kept_whole=True)

    monkeypatch.setattr(noise, "remove_silence", keep_all)
    return heard


def test_noise_is_mixed_in_before_silence_removal_and_over_half_the_rest_is_unchanged(speech, talkers, small, mixtures):
    item = speech[1][0]
    heard = list(heard_utterance(item, talkers, small))
    by_condition = dict(zip(CONDITIONS, mixtures, strict=True))
    clean = read_waveform(item.utterance.path)
    np.testing.assert_array_equal(by_condition[CLEAN], clean)
    is_speech = voiced(clean, small.vad)
    assert is_speech.any()
    for one in heard:
        condition, mixture = one.condition, by_condition[one.condition]
        if condition.portion == "whole" and not one.clipped:
            added = (mixture - clean)[is_speech].astype("float64")
            ratio = np.sum(clean[is_speech].astype("float64") ** 2) / np.sum(added**2)
            assert 10 * np.log10(ratio) == pytest.approx(condition.snr_db, abs=0.01)
        if condition.portion == "half":
            whole = by_condition[replace(condition, portion="whole")]
            noisy = np.zeros(len(clean), bool)
            noisy[one.noisy] = True
            np.testing.assert_array_equal(mixture, np.where(noisy, whole, clean))
            assert not np.array_equal(mixture, whole)
            assert not np.array_equal(mixture, clean)
    assert sum(one.clipped > 0 for one in heard) < len(heard) / 2


def test_the_noisy_half_is_found_again_after_silence_removal(speech, talkers, small):
    item = speech[1][0]
    clean = read_waveform(item.utterance.path)
    padded = np.concatenate([np.zeros(8000, np.float32), clean, np.zeros(8000, np.float32)])
    for where in (slice(0, 12_000), slice(12_000, len(padded))):
        kept = voiced(padded, small.vad)
        assert 0 < kept.sum() < len(padded)
        speech_of_it = Speech(np.zeros(kept.sum(), np.int16), kept_whole=False)
        found = noise._kept(padded, speech_of_it, where, small)
        assert found.stop - found.start == kept[where].sum()
        assert found == noise._kept(padded, speech_of_it, where, small)
    whole = Speech(np.zeros(len(padded), np.int16), kept_whole=True)
    assert noise._kept(padded, whole, slice(12_000, len(padded)), small) == slice(12_000, len(padded))


def test_mixtures_depend_only_on_name_noise_and_seed(speech, talkers, small):
    first, second = speech[1][:2]
    alone = {one.condition: one.speech.samples for one in heard_utterance(first, talkers, small)}
    list(heard_utterance(second, talkers, small))
    backwards = {speaker: items[::-1] for speaker, items in reversed(talkers.items())}
    for one in heard_utterance(first, backwards, small):
        np.testing.assert_array_equal(one.speech.samples, alone[one.condition])
    again = {one.condition: one.speech.samples for one in heard_utterance(first, talkers, small, seed=NOISE_SEED + 1)}
    same = [condition for condition in CONDITIONS if np.array_equal(alone[condition], again[condition])]
    assert same == [CLEAN]


def test_no_speaker_is_in_the_babble_of_his_own_utterance(speech, talkers):
    everyone = talkers | {"table:1": speech[1]}
    for number, item in enumerate(speech[1] + speech[3]):
        drawn = draw_talkers(item.utterance, everyone, 20_000, np.random.default_rng(number))
        speakers = [{one.utterance.speaker for one in items} for items in drawn]
        assert all(len(names) == 1 for names in speakers)
        assert set.union(*speakers) == everyone.keys() - {item.utterance.speaker}  # four of at most six
        assert all(sum(one.samples for one in items) >= 20_000 for items in drawn)


def test_babble_needs_two_other_speakers(speech):
    with pytest.raises(UserError, match=r"babble: expected at least 2 training speakers beside table:1\. Received: 1;"):
        draw_talkers(speech[1][0].utterance, {"table:3": speech[3], "table:1": speech[1]}, 9, np.random.default_rng(0))


def test_babble_is_of_training_speakers(watched):
    assert watched.talkers == {"table:3", "table:4", "table:5", "table:6"}


def test_mixtures_are_not_cached(watched):
    assert len(watched.cached) == 72  # 6 speakers, 3 emotions, 4 takes
    assert watched.cached == watched.cached_before


def test_a_measurement_resumes_and_ends_the_same(measured, runs, tones, tmp_path, monkeypatch):
    corpus, lines = open_corpus(tones), []
    folder = measure(corpus, runs[:1], tmp_path / "noise", print)
    with folder.table.open("a") as file:  # as after a kill between the two files
        file.write("S3,1,0,table:1,sad,none,none,,3+,4,4,4,0.5,0,,\n")
    measure(corpus, runs, tmp_path / "noise", lines.append)
    assert [line for line in lines if line.startswith("fold")] == ["fold 1: S3-fold1-seed0"]
    assert folder.table.read_bytes() == measured.table.read_bytes()

    monkeypatch.setattr(noise, "load_run", None)  # nothing is measured again
    measure(corpus, runs[::-1], tmp_path / "noise", print)
    assert folder.table.read_bytes() == measured.table.read_bytes()


def spoiled_run(runs, tmp_path):
    run = shutil.copytree(runs[0], tmp_path / "run")
    classifier = json.loads((run / "classifier.json").read_text())
    (run / "classifier.json").write_text(json.dumps(classifier | {"inverse_temperature": 2.0}))
    return [run, runs[1]]


REFUSED = {
    "fewer runs": (lambda runs, _: runs[:1], "also holds S3-fold1-seed0; give that run too, choose another --run"),
    "another classifier": (spoiled_run, "holds S1-fold1-seed0 with another identity, configuration or weights; choose"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_runs_of_another_measurement_are_refused(measured, runs, tones, tmp_path, case):
    make, message = REFUSED[case]
    before = measured.about.read_bytes()
    with pytest.raises(UserError, match=rf"^{measured.path}: {message}"):
        measure(open_corpus(tones), make(runs, tmp_path), measured.path, print)
    assert measured.about.read_bytes() == before


def test_another_setting_is_refused(measured, runs, tones, monkeypatch):
    monkeypatch.setattr(noise, "TALKERS", 2)
    with pytest.raises(UserError, match=rf"^{measured.path}: holds a measurement with another talkers; choose another"):
        measure(open_corpus(tones), runs, measured.path, print)


def without_weights(run, tones):
    (run / "embedding.weights.h5").unlink()


def other_network(run, tones):
    config = Config.load(run / "config.yaml")
    replace(config, network=replace(config.network, clusters=3)).save(run / "config.yaml")


def other_recording(run, tones):
    soundfile.write(tones.parent / "4-sad-0.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 9600), 16_000)


BAD = {
    "no weights": (without_weights, r"run/embedding\.weights\.h5: expected the weights of the run; give a run that"),
    "another network": (other_network, r"run: expected audio, vad, spectrogram and network of .*, except for ghost"),
    "another recording": (other_recording, r"tones\.csv: expected the recordings of the runs: table, data hash .*give"),
    "a full folder": (
        lambda run, tones: (run.parent / "noise").mkdir() or (run.parent / "noise/mine.txt").touch(),
        r"noise: expected a folder of ser-tf noise or an empty one; choose another --run",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_unsuitable_runs_are_refused_by_name(runs, tones, tmp_path, case):
    spoil, message = BAD[case]
    run = shutil.copytree(runs[1], tmp_path / "run")
    copy = shutil.copytree(tones.parent, tmp_path / "corpus") / tones.name
    spoil(run, copy)
    with pytest.raises(UserError, match=message) as error:
        measure(open_corpus(copy), [runs[0], run], tmp_path / "noise", print)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "noise/noise.json").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "noise.json",
            "{",
            "noise.json: expected a readable JSON file; give the folder of a measurement by",
        ),
        ("noise.json", "{}", "noise.json: expected the settings and runs of a measurement; give the folder"),
        (
            "noise.csv",
            "a,b\n",
            "noise.csv: expected the columns strategy, .*Received: the columns a, b; restore the",
        ),
    ],
)
def test_a_damaged_measurement_is_refused_by_name(measured, tmp_path, file, content, message):
    folder = NoiseFolder(shutil.copytree(measured.path, tmp_path / "copy"))
    (folder.path / file).write_text(content)
    with pytest.raises(UserError, match=rf"^{folder.path}/{message}"):
        folder.read_rows()
