import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError
from ser_tf.pretraining.emotions import EmotionTask, pretrain_emotions
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.weights import read_provenance, read_recordings
from ser_tf.training.finetune import finetune
from ser_tf.training.progress import Progress

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """A second table, with three speakers and two of the emotions of `tones`."""
    generator = np.random.default_rng(7)
    folder = tmp_path_factory.mktemp("other")
    rows = ["path,speaker,emotion"]
    for speaker in "abc":
        for emotion in ("neutral", "sad"):
            for take in range(4):
                name = f"{speaker}-{emotion}-{take}.wav"
                soundfile.write(folder / name, 0.1 * generator.normal(size=9600), 16_000)
                rows.append(f"{name},{speaker},{emotion}")
    table = folder / "other.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


@pytest.fixture(scope="module")
def cosine(small):
    training = replace(small.training, schedule="cosine", steps=12, warm_up_steps=2, average_momentum=0.5)
    return replace(small, training=training)


@pytest.fixture(scope="module")
def pretrained(tones, other, cosine, tmp_path_factory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("pretrained") / "run")
    task = EmotionTask.of(
        [open_corpus(tones), open_corpus(other)], cosine, ["*/tones:1".replace("*", tones.parent.name)]
    )
    pretrain_emotions(task, run, report=print)
    return run


def test_some_speakers_of_each_corpus_are_held_out_and_scored(pretrained, tones, other):
    metrics = json.loads(pretrained.metrics.read_text())
    names = [f"{path.parent.name}/{path.stem}" for path in (tones, other)]
    assert sorted(metrics["held_out"]) == sorted(names)
    assert len(metrics["held_out_speakers"]) == 2  # 8 % of five, and of three, but at least one
    rows = list(csv.DictReader(pretrained.predictions.open()))
    assert {row["speaker"] for row in rows} == {*metrics["held_out_speakers"]}
    for name in names:
        of_corpus = [row for row in rows if row["speaker"].startswith(f"{name}:")]
        scores = metrics["held_out"][name]
        assert scores["utterances"] == len(of_corpus)
        assert scores["wa"] == pytest.approx(np.mean([row["truth"] == row["prediction"] for row in of_corpus]))


def test_the_weights_tell_whom_they_heard(pretrained, tones, other):
    provenance = read_provenance(pretrained.weights)
    metrics = json.loads(pretrained.metrics.read_text())
    assert not {*provenance["speakers"]} & {*metrics["held_out_speakers"]}
    assert f"{tones.parent.name}/tones:1" not in provenance["speakers"]  # excluded
    assert len(provenance["speakers"]) == 6  # of six and three: one excluded, two held out
    recordings = sum(corpus["recordings"] for corpus in provenance["corpora"].values())
    assert len(read_recordings(pretrained.weights)) == recordings
    assert provenance["pretraining"] == {"task": "emotions", "emotions": metrics["emotions"]}
    assert "strategy" not in provenance


def test_a_fold_starts_from_them_and_refuses_them_where_it_tests_their_recordings(
    pretrained, task_of, cosine, tmp_path
):
    # The tones under their own table's name: speakers differ, recordings do not.
    with pytest.raises(UserError, match=r"embedding\.weights\.h5: .*"):
        task_of("S3", fold=2, config=cosine, weights=pretrained.weights)


def test_a_fold_of_another_corpus_starts_from_them(task_of, other, cosine, tmp_path):
    corpora = [open_corpus(other), open_corpus(noise_table(tmp_path))]
    source = RunFolder(tmp_path / "source")
    pretrain_emotions(EmotionTask.of(corpora, cosine), source, report=print)
    config = replace(cosine, training=replace(cosine.training, steps_from_weights=4, learning_rate_from_weights=1e-4))
    run = RunFolder(tmp_path / "run")
    result = finetune(task_of("S2", config=config, weights=source.weights), run, report=print)
    assert result["epochs"] == result["best_epoch"] == 2  # 4 steps of 3 batches each: 48 training utterances
    assert result["start"] == f"{source.weights}, ghost_vlad afresh"


def noise_table(folder: Path) -> Path:
    generator = np.random.default_rng(8)
    rows = ["path,speaker,emotion"]
    for speaker in "xy":
        for emotion in ("sad", "happy"):
            for take in range(4):
                name = f"{speaker}-{emotion}-{take}.wav"
                soundfile.write(folder / name, 0.1 * generator.normal(size=9600), 16_000)
                rows.append(f"{name},{speaker},{emotion}")
    (folder / "noise.csv").write_text("\n".join(rows) + "\n")
    return folder / "noise.csv"


def test_a_killed_training_ends_like_an_undisturbed_one(pretrained, tones, other, cosine, tmp_path, monkeypatch):
    task = EmotionTask.of([open_corpus(tones), open_corpus(other)], cosine, [f"{tones.parent.name}/tones:1"])
    run = RunFolder(tmp_path / "killed")
    save = Progress.save

    def save_and_die(self, path, variables):
        save(self, path, variables)
        if len(self.epochs) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "save", save_and_die)
        pretrain_emotions(task, run, report=print)
    assert not run.finished
    pretrain_emotions(task, run, report=print)
    for name in ("predictions.csv", "metrics.json"):
        assert (run.path / name).read_text() == (pretrained.path / name).read_text(), name


def test_a_recording_of_two_speakers_is_refused(tones, other, cosine, tmp_path):
    shutil.copy(other.parent / "a-sad-0.wav", tmp_path / "copy.wav")
    shutil.copy(other.parent / "b-neutral-1.wav", tmp_path / "second.wav")
    (tmp_path / "copies.csv").write_text("path,speaker,emotion\ncopy.wav,z,sad\nsecond.wav,w,neutral\n")
    with pytest.raises(UserError, match=r"expected each recording on one side. Received: .*\.wav"):
        EmotionTask.of([open_corpus(other), open_corpus(tmp_path / "copies.csv")], cosine)


def test_unknown_speakers_to_exclude_are_refused(tones, other, cosine):
    with pytest.raises(UserError, match=r"exclude_speakers: expected speakers such as .* Received: ravdess:\*"):
        EmotionTask.of([open_corpus(tones), open_corpus(other)], cosine, ["ravdess:*"])
