"""One fold from start to end, on tones that a shallow network learns in a few epochs."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from typing import get_args, get_type_hints

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

import ser_tf
from ser_tf.config import Config
from ser_tf.corpora.folds import load_scheme
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError
from ser_tf.network.se_resnet import precision
from ser_tf.pipeline import training_dataset
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.weights import read_provenance
from ser_tf.strategies import Strategy
from ser_tf.training import finetune as finetuning
from ser_tf.training.finetune import finetune, train_fold
from ser_tf.training.fold_network import METRIC_LOSSES, FoldNetwork
from ser_tf.training.fold_task import FoldTask
from ser_tf.training.progress import Progress

pytestmark = pytest.mark.usefixtures("shallow")

EMOTIONS = ["happy", "sad", "angry"]  # the order of ser_tf.corpora.EMOTIONS
TRAINING_SPEAKERS = [f"table:{number}" for number in (3, 4, 5, 6)]
STRATEGIES = ("S1", "S3", "S4", "S5")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def metrics_of(run):
    return json.loads(run.metrics.read_text())


def changed(config: Config, section: str, **values) -> Config:
    return replace(config, **{section: replace(getattr(config, section), **values)})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_folder_holds_what_the_run_was_and_what_came_out(finetuned, small, strategy):
    run = finetuned(strategy)
    softmax, svm = {"head.weights.h5"}, {"svm.npz"}
    own = {"S1": softmax, "S3": softmax, "S4": svm, "S5": softmax | svm}[strategy]  # S5 has a softmax term here
    assert {path.name for path in run.path.iterdir()} == own | {
        "config.yaml",
        "run.json",
        "log.csv",
        "tensorboard",
        "embedding.weights.h5",
        "embedding.keras",
        "classifier.json",
        "predictions.csv",
        "confusion.csv",
        "checksums.sha256",
        "metrics.json",
    }
    assert list(run.tensorboard.rglob("events.out.tfevents.*"))
    resolved = Config.load(run.config)
    assert resolved.network.ghost_clusters == (0 if strategy == "S1" else small.network.ghost_clusters)
    assert resolved.training == small.training

    provenance = json.loads(run.identity.read_text())
    assert {"ser_tf", "commit", "python", "packages", "backend", "machine"} <= provenance["made_with"].keys()
    identity = provenance["identity"]
    assert (identity["strategy"], identity["corpus"], identity["scheme"], identity["fold"]) == (
        strategy,
        "table",
        "complete",
        1,
    )
    assert len(identity["data_hash"]) == len(identity["scheme_hash"]) == 16
    assert identity["train_speakers"] == TRAINING_SPEAKERS
    assert (identity["validation_speakers"], identity["test_speakers"]) == (["table:2"], ["table:1"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_log_has_every_epoch_until_patience_ends(finetuned, small, strategy):
    run, schedule = finetuned(strategy), small.training
    log, metrics = rows_of(run.log), metrics_of(run)
    scores = [float(row["validation_uar"]) for row in log]
    assert [int(row["epoch"]) for row in log] == list(range(1, metrics["epochs"] + 1))
    assert metrics["best_epoch"] == 1 + scores.index(max(scores))
    assert metrics["epochs"] == min(metrics["best_epoch"] + schedule.patience_epochs, schedule.maximum_epochs)
    assert all(np.isfinite(float(row["loss"])) for row in log)
    assert all(float(row["learning_rate"]) == pytest.approx(schedule.learning_rate) for row in log)
    if strategy in ("S4", "S5"):
        assert any(name.endswith("collapse_ratio") for name in log[0])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_metrics_follow_from_the_predictions(finetuned, tones, strategy):
    run = finetuned(strategy)
    rows, metrics = rows_of(run.predictions), metrics_of(run)
    assert (metrics["emotions"], metrics["folds"]) == (EMOTIONS, 6)
    for side, speaker in (("validation", "table:2"), ("test", "table:1")):
        here = [row for row in rows if row["side"] == side]
        assert sorted(row["file"] for row in here) == sorted(
            path.name for path in tones.parent.glob(f"{speaker[-1]}-*")
        )
        assert {row["speaker"] for row in here} == {speaker}
        truth = [row["truth"] for row in here]
        assert truth == [row["file"].split("-")[1] for row in here]
        prediction = [row["prediction"] for row in here]
        shares = np.array([[float(row[emotion]) for emotion in EMOTIONS] for row in here])
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=2e-6)  # six decimals
        assert prediction == [EMOTIONS[index] for index in shares.argmax(axis=1)]

        scores = metrics[side]
        assert scores["utterances"] == len(here) == 12
        assert scores["wa"] == pytest.approx(accuracy_score(truth, prediction))
        assert scores["uar"] == pytest.approx(recall_score(truth, prediction, average="macro", zero_division=0))
        assert scores["macro_f1"] == pytest.approx(f1_score(truth, prediction, average="macro", zero_division=0))
        assert scores["confusion"] == confusion_matrix(truth, prediction, labels=EMOTIONS).tolist()
    # The weights are those of the best epoch, which the softmax scored in the same way.
    if strategy in ("S1", "S3"):
        best = rows_of(run.log)[metrics["best_epoch"] - 1]
        assert metrics["validation"]["uar"] == pytest.approx(float(best["validation_uar"]))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_confusion_has_counts_and_row_percent(finetuned, strategy):
    run = finetuned(strategy)
    rows = rows_of(run.confusion)
    assert [row["truth"] for row in rows] == EMOTIONS
    counts = [[int(row[emotion]) for emotion in EMOTIONS] for row in rows]
    assert counts == metrics_of(run)["test"]["confusion"]
    for row in rows:  # four recordings of each emotion, so that one is 25 %
        assert [float(row[f"{emotion} %"]) for emotion in EMOTIONS] == [
            25.0 * int(row[emotion]) for emotion in EMOTIONS
        ]


LOADS_WITH_KERAS = """
import sys
import keras, numpy as np
{registers}
network = keras.models.load_model(sys.argv[1])
inputs = {{"spectrogram": np.load(sys.argv[2])[None], "frames": np.array([40], "int32")}}
print(*network(inputs)["embedding"].numpy()[0].tolist())
compiled = keras.models.load_model(sys.argv[3])
print(compiled.loss.get_config()["polarities"], compiled.loss.get_config()["alpha"])
"""


@pytest.mark.parametrize("registers", ["import ser_tf.network", "import ser_tf; ser_tf.TripletLoss"])
def test_keras_loads_the_network_of_a_run_and_one_with_our_loss(finetuned, tmp_path, rng, registers):
    run = finetuned("S5")
    spectrogram = rng.normal(size=(40, 257)).astype("float32")
    np.save(tmp_path / "spectrogram.npy", spectrogram)
    foreign = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.UnitNormalization()])
    foreign.compile(loss=ser_tf.EmotionTripletLoss(["negative", "positive"], alpha=0.25))
    foreign.save(tmp_path / "foreign.keras")
    command = [sys.executable, "-c", LOADS_WITH_KERAS.format(registers=registers), run.network]
    command += [tmp_path / "spectrogram.npy", tmp_path / "foreign.keras"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    embedding, loss = process.stdout.splitlines()
    inputs = {"spectrogram": spectrogram[None], "frames": np.array([40], "int32")}
    expected = ser_tf.load(run.path).embedding(inputs)["embedding"][0]
    np.testing.assert_allclose(np.array(embedding.split(), float), expected, atol=1e-6)
    assert loss == "['negative', 'positive'] 0.25"


def test_the_network_of_a_run_is_little_more_than_its_weights(finetuned):
    run = finetuned("S5")
    assert run.network.stat().st_size < run.weights.stat().st_size + 100_000  # its configuration


def test_a_run_of_an_older_version_has_no_network_file(finetuned, tmp_path):
    older = shutil.copytree(finetuned("S3").path, tmp_path / "older")
    (older / "embedding.keras").unlink()
    assert ser_tf.load(older).emotions == tuple(EMOTIONS)


def test_tones_are_learnt(finetuned):
    # Of 12 recordings in three classes, guesses get 4 right, and 9 with a probability of 0.4 %.
    assert max(metrics_of(finetuned(strategy))["validation"]["uar"] for strategy in STRATEGIES) >= 0.75


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_unreadable_recording_is_named_while_training_goes_on(finetuned, tones, strategy):
    unreadable = metrics_of(finetuned(strategy))["unreadable"]
    assert list(unreadable) == ["broken"]
    assert str(tones.parent / "broken.wav") in unreadable["broken"]
    assert "zero bytes" in unreadable["broken"]


def test_the_classifier_is_the_strategys(finetuned):
    kinds = {
        strategy: json.loads((finetuned(strategy).path / "classifier.json").read_text()) for strategy in STRATEGIES
    }
    assert {strategy: kind["kind"] for strategy, kind in kinds.items()} == {
        "S1": "softmax",
        "S3": "softmax",
        "S4": "svm",
        "S5": "svm",
    }
    assert all(kind["emotions"] == EMOTIONS for kind in kinds.values())
    assert metrics_of(finetuned("S1"))["svm"] is None
    assert metrics_of(finetuned("S5"))["svm"].keys() == {"c", "gamma", "validation_uar"}


def test_weights_tell_whom_they_heard_and_where_they_started(finetuned):
    s3, s5 = (read_provenance(finetuned(strategy).weights) for strategy in ("S3", "S5"))
    assert (s3["speakers"], s3["strategy"]) == (TRAINING_SPEAKERS, "S3")
    assert "started_from" not in s3
    assert (s5["speakers"], s5["strategy"]) == (TRAINING_SPEAKERS, "S5")
    assert s5["started_from"] == s3
    metrics = metrics_of(finetuned("S5"))
    assert metrics["weights"] == s3
    assert metrics["start"] == str(finetuned("S3").weights)
    assert metrics_of(finetuned("S3"))["start"] == "random weights"


def test_weights_that_heard_a_held_out_speaker_are_refused(finetuned, task_of):
    # Fold 3 tests speaker 3, whom the weights of fold 1 were trained on, and validates on 4.
    with pytest.raises(UserError, match=r"embedding\.weights\.h5: .* 2 of the fold's .* \(table:3, table:4\)"):
        task_of("S3", fold=3, weights=finetuned("S3").weights)


def test_weights_that_heard_a_held_out_recording_under_another_name_are_refused(finetuned, small, tones, tmp_path):
    # The same files in another table, whose first speaker, tested in fold 1, is the last one here and was trained on.
    header, *rows = tones.read_text().splitlines()
    table = tones.with_name("renamed.csv")
    renamed = (f"{path},x{7 - int(speaker)},{emotion}" for path, speaker, emotion in (row.split(",") for row in rows))
    table.write_text("\n".join([header, *renamed]) + "\n")
    corpus = open_corpus(table)
    fold = (corpus, load_scheme("complete", corpus), 1, "S3", small)
    # Speakers x1 and x2 are 6 and 5, of 12 recordings each, of which one is broken.
    with pytest.raises(UserError, match=r"trained on 24 of the fold's validation and test recordings \(5-angry-0, 5-a"):
        FoldTask.make(*fold, finetuned("S3").weights)


@pytest.mark.parametrize(
    ("room", "change", "message"),
    [
        ("network", {"squeeze_reduction": 8}, r"network\.squeeze_reduction 4, and this run has 8"),
        ("spectrogram", {"compression": "none"}, r"spectrogram\.compression log, and this run has none"),
    ],
)
def test_weights_of_another_network_or_spectrogram_are_refused(finetuned, task_of, small, room, change, message):
    with pytest.raises(UserError, match=r"embedding\.weights\.h5: these weights were trained with " + message):
        task_of("S3", config=changed(small, room, **change), weights=finetuned("S3").weights)


def test_weights_with_other_clusters_give_the_backbone(finetuned, task_of, small, tmp_path):
    config = changed(changed(small, "network", clusters=3, ghost_clusters=1), "training", maximum_epochs=1)
    weights, run, lines = finetuned("S3").weights, RunFolder(tmp_path / "run"), []
    finetune(task_of("S3", config=config, weights=weights), run, report=lines.append)
    # The descriptors have 16 numbers; 2 clusters and 2 ghosts in the file, 3 and 1 here; biases are 4 in both.
    assert lines[0].startswith(f"weights from {weights}:\nstem ")
    assert lines[0].endswith("3 afresh (ghost_vlad/centres: 2x16 in the file, 3x16 in this network)")
    before = read_provenance(weights) | {"afresh": ["ghost_vlad"]}
    assert json.loads(run.identity.read_text())["identity"]["weights"] == before
    provenance = read_provenance(run.weights)
    assert (provenance["speakers"], provenance["started_from"]) == (TRAINING_SPEAKERS, before)
    assert metrics_of(run)["start"] == f"{weights}, ghost_vlad afresh"


KILLED = """
import os, signal, sys
from ser_tf.cli import door
from ser_tf.cli.options import import_tensorflow

import_tensorflow()
from ser_tf.network import se_resnet
from ser_tf.training.progress import Progress

se_resnet.STAGES = (se_resnet.STAGES[0]._replace(blocks=1),)  # as the fixture `shallow` does
save = Progress.save

def save_and_die(self, path, variables):
    save(self, path, variables)
    if len(self.epochs) == {epochs}:
        os.kill(os.getpid(), signal.SIGKILL)

Progress.save = save_and_die
door.main()
"""


def weights_in(path):
    """Every array of an HDF5 file by its name."""
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def test_a_killed_run_goes_on_and_ends_like_an_undisturbed_one(finetuned, task_of, tones, tmp_path):
    undisturbed, run = finetuned("S5"), RunFolder(tmp_path / "killed")
    config, weights = Config.load(undisturbed.config), finetuned("S3").weights
    epochs = metrics_of(undisturbed)["best_epoch"] + 1  # after the best epoch, inside the patience of two
    assert epochs < metrics_of(undisturbed)["epochs"]

    options = {"--corpus": tones, "--preset": undisturbed.config, "--strategy": "S5", "--weights": weights}
    command = [str(word) for option in {**options, "--run": run.path}.items() for word in option]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(epochs=epochs), "finetune", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stderr.splitlines() == [  # and nothing of what TensorFlow has to say
        f"ser-tf: left out: {tones.parent / 'broken.wav'}: expected a recording. Received: a file of zero bytes; "
        "fetch it again"
    ]
    assert run.state.is_file()
    assert not run.finished
    for name in ("state.npz", "embedding.weights.h5", "log.csv", "metrics.json"):
        (run.path / f"unfinished-{name}").write_bytes(b"half")  # what a kill while writing leaves behind

    lines = []
    finetune(task_of("S5", config=config, weights=weights), run, report=lines.append)
    assert lines[:2] == [
        f"weights from {weights}:\nall {len(weights_in(weights)) - 1} arrays taken",  # and the list of recordings
        f"resumed after epoch {epochs}",
    ]
    for name in ("log.csv", "predictions.csv", "confusion.csv", "metrics.json", "classifier.json"):
        assert (run.path / name).read_text() == (undisturbed.path / name).read_text(), name
    for name in ("embedding.weights.h5", "head.weights.h5"):
        expected = weights_in(undisturbed.path / name)
        found = weights_in(run.path / name)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[key], expected[key]) for key in expected), name
    assert not list(run.path.glob("*state*"))


def exhausted(message):
    return tf.errors.ResourceExhaustedError(None, None, message)


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (exhausted("OOM when allocating tensor"), UserError, r"^out of memory; lower training\.batch_size"),
        (
            exhausted("events.v2; No space left on device\n\tFailed to"),
            OSError,
            r"left on device: '.*run/tensorboard'$",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), OSError, r"No space left on device: '.*run'$"),
    ],
)
def test_a_full_disk_or_memory_is_explained(task_of, tmp_path, monkeypatch, raised, error, message):
    def fit(*_, **__):
        raise raised

    monkeypatch.setattr(keras.Model, "fit", fit)
    with pytest.raises(error, match=message):
        finetune(task_of("S1"), RunFolder(tmp_path / "run"), report=print)


def test_another_seed_is_another_run(finetuned, task_of, small, tmp_path):
    config = changed(small, "training", seed=1, maximum_epochs=1)
    run = RunFolder(tmp_path / "run")
    finetune(task_of("S1", config=config), run, report=print)
    assert rows_of(run.log)[0]["loss"] != rows_of(finetuned("S1").log)[0]["loss"]
    assert run.predictions.read_text() != finetuned("S1").predictions.read_text()


def test_an_epoch_is_a_line_with_its_loss_and_score(task_of, small, tmp_path, capsys):
    config = changed(small, "training", maximum_epochs=2)
    train_fold(task_of("S5", config=config), RunFolder(tmp_path / "run"), report=print)
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == ["Epoch 1/2", "Epoch 2/2"]
    for line in lines[1::2]:
        assert re.search(r"s/step - loss: \d\.\d+ - validation_uar: \d\.\d+$", line), line


def test_statistics_of_normalisation_fit_crops_without_augmentation(task_of, small, tmp_path, monkeypatch):
    noisy = changed(small, "augmentation", noise_probability=1.0, noise_snr_db=(-20.0, -20.0))
    task = task_of("S1", config=changed(noisy, "training", maximum_epochs=1))
    side = task.side(task.fold.train)
    (clean,) = (inputs for inputs, _ in training_dataset(side.speech, side.labels, small).take(1))

    def misfit(name: str) -> float:
        """Largest difference between embeddings by moving statistics and by those of a clean batch."""
        network, _ = train_fold(task, RunFolder(tmp_path / name), report=print)
        given = network.embedding(clean, training=False)["embedding"]
        return float(np.abs(given - network.embedding(clean, training=True)["embedding"]).max())

    settled = misfit("settled")
    monkeypatch.setattr(FoldNetwork, "settle", lambda *arguments: None)
    assert settled < 0.3 * misfit("unsettled")


def test_an_interrupted_run_with_augmentation_ends_like_an_undisturbed_one(task_of, small, tmp_path, monkeypatch):
    noisy = changed(small, "augmentation", noise_probability=0.5, time_stretch=0.1)
    task = task_of("S1", config=changed(noisy, "training", maximum_epochs=3, crop_variation=0.3))
    whole, halted = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "halted")
    train_fold(task, whole, report=print)
    save = Progress.save

    def save_and_halt(progress, path, variables):
        save(progress, path, variables)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "save", save_and_halt)
        train_fold(task, halted, report=print)
    assert len(rows_of(halted.log)) == 1
    train_fold(task, halted, report=print)
    assert halted.log.read_text() == whole.log.read_text()
    expected, found = weights_in(whole.weights), weights_in(halted.weights)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("parameters", "settles"),
    [
        ({}, False),
        ({"schedule": "cosine"}, True),
        ({"noise_snr_db": (15.0, 50.0)}, False),  # of no noise
        ({"time_masks": 1}, True),
    ],
)
def test_statistics_settle_for_last_weights_and_after_augmentation(
    task_of, small, tmp_path, monkeypatch, parameters, settles
):
    calls = []
    monkeypatch.setattr(FoldNetwork, "settle", lambda *arguments: calls.append(arguments))
    part = "training" if "schedule" in parameters else "augmentation"
    config = changed(changed(small, "training", maximum_epochs=1, steps=1), part, **parameters)
    train_fold(task_of("S1", config=config), RunFolder(tmp_path), report=print)
    assert bool(calls) == settles


def test_a_finished_run_is_left_alone(finetuned, task_of, monkeypatch):
    run = finetuned("S1")
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    monkeypatch.setattr(finetuning, "train_fold", None)
    lines = []
    assert finetune(task_of("S1"), run, report=lines.append) == metrics_of(run)
    assert lines == [f"{run.path}: already finished"]
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_two_trainings_of_one_fold_are_refused(task_of, tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.alone(), pytest.raises(UserError, match=f"^{run.path}: another ser-tf command is at work in it"):
        finetune(task_of("S1"), run, print)
    assert not run.path.exists()


def test_the_folder_of_another_run_is_refused_by_what_differs(finetuned, task_of, tones, small, tmp_path):
    run, task = finetuned("S1"), task_of("S1")
    other_config = changed(task.config, "training", seed=1)
    other_table = tmp_path / "fewer.csv"
    lines = tones.read_text().splitlines()
    rows = [f"{tones.parent / line}" for line in lines[1:] if not line.startswith("3-happy-0")]
    other_table.write_text("\n".join([lines[0], *rows]) + "\n")
    corpus = open_corpus(other_table)
    others = {
        "configuration": replace(task, config=other_config),
        "strategy": task_of("S3"),
        "fold, train_speakers, validation_speakers, test_speakers": task_of("S1", fold=2),
        "data_hash": FoldTask.make(corpus, load_scheme("complete", corpus), 1, "S1", small, None),
        "weights": replace(task, weights=finetuned("S3").weights),
    }
    for difference, other in others.items():
        with pytest.raises(UserError, match=f"holds a run with another {difference}; choose another --run"):
            finetune(other, run, report=print)


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        (49, "batch_size: expected at most the number of training utterances, 48"),
        (4, "batch_size: expected at least 6, two seats for each of 3 emotions"),
    ],
)
def test_batches_that_cannot_be_dealt_are_refused_before_training(task_of, small, batch_size, message):
    with pytest.raises(UserError, match=message):
        task_of("S3", config=changed(small, "training", batch_size=batch_size))


@pytest.mark.parametrize("side", ["training", "validation"])
def test_a_side_without_an_emotion_is_refused_before_training(tones, small, tmp_path, side):
    speakers = {"training": "3456", "validation": "2"}[side]
    missing = tuple(f"{speaker}-happy" for speaker in speakers)
    with pytest.raises(
        UserError, match=rf"fold 1: expected {side} speakers .* Received: table:.* without happy; choos"
    ):
        make_from(tones, small, tmp_path, keep=lambda name: not name.startswith(missing))


def test_a_side_without_a_readable_recording_is_refused_before_training(tones, small, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.touch()
    with pytest.raises(
        UserError, match=r"readable recordings of table:1\. Received: 1 unreadable, such as .*broken\.wav"
    ):
        make_from(tones, small, tmp_path, keep=lambda name: not name.startswith("1-"), extra=f"{broken},1,sad")


def make_from(tones, config, folder, *, keep, extra=""):
    """The S3 task on the tones that `keep` selects; speaker 1 tests and 2 validates, even without some emotions."""
    columns, *rows = tones.read_text().splitlines()
    kept = [f"{tones.parent / row}" for row in rows if keep(row)]
    table = folder / "table.csv"
    table.write_text("\n".join([columns, *kept, extra]) + "\n")
    corpus = open_corpus(table)
    folds = folder / "folds.yaml"
    folds.write_text("table: {own: {folds: {1: {test: 1, validation: 2}}}}")
    return FoldTask.make(corpus, load_scheme("own", corpus, folds), 1, "S3", config, None)


def test_the_emotion_triplet_loss_asks_for_unknown_polarities(tones, small, tmp_path):
    table = tmp_path / "table.csv"
    columns, *rows = tones.read_text().splitlines()
    table.write_text("\n".join([columns, *(f"{tones.parent / row}".replace(",angry", ",bored") for row in rows)]))
    corpus = open_corpus(table)
    task = FoldTask.make(corpus, load_scheme("complete", corpus), 1, "S5", small, None)
    with pytest.raises(
        UserError, match="the emotion triplet loss needs the polarity of bored; add a column 'polarity'"
    ):
        train_fold(task, RunFolder(tmp_path / "run"), report=print)
    assert not (tmp_path / "run").exists()


def test_every_loss_of_a_strategy_but_softmax_is_made_for_its_fold():
    assert {"softmax", *METRIC_LOSSES} == set(get_args(get_type_hints(Strategy)["loss"]))


def test_an_unknown_loss_is_never_the_emotion_triplet_loss(tones, small):
    corpus = open_corpus(tones)
    task = FoldTask.make(corpus, load_scheme("complete", corpus), 1, "S5", small, None)
    with pytest.raises(KeyError, match="circle"):
        FoldNetwork(replace(task, strategy=replace(task.strategy, loss="circle")))


def test_precision_ends_with_its_block():
    before = keras.config.dtype_policy().name
    with pytest.raises(KeyboardInterrupt), precision("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        raise KeyboardInterrupt
    assert keras.config.dtype_policy().name == before == "float32"
