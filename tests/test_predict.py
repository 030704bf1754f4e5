"""From a finished run to the emotion of a recording, given in every supported form."""

import csv
import json
import os
import shutil
import struct
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import soundfile

import ser_tf
from ser_tf.errors import UserError
from ser_tf.runs.files import write_json
from ser_tf.serving.export import export
from ser_tf.serving.export_folder import UNFINISHED
from ser_tf.serving.loading import load

pytestmark = pytest.mark.usefixtures("shallow")

KINDS = ("S3", "S5")  # softmax, SVM
OLD_RUNS = Path(__file__).parent / "old_runs"


def predictions_of(run):
    with run.predictions.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def recognisers(shallow, finetuned):
    return {strategy: load(finetuned(strategy).path) for strategy in KINDS}


@pytest.fixture
def tone(tones):
    return tones.parent / "1-sad-0.wav"


@pytest.fixture
def run_copy(finetuned, tmp_path):
    """A copy of a finished run that a test may damage."""
    return shutil.copytree(finetuned("S3").path, tmp_path / "run")


@pytest.mark.parametrize("strategy", KINDS)
def test_a_recording_may_come_in_any_form(recognisers, tone, strategy):
    recogniser = recognisers[strategy]
    samples, rate_hz = soundfile.read(tone, dtype="int16")
    prediction = recogniser(tone)
    assert prediction == recogniser(str(tone))
    assert prediction == recogniser(tone.read_bytes())
    assert prediction == recogniser(samples, rate_hz)
    assert prediction == recogniser(np.stack([samples, samples], axis=1), rate_hz=rate_hz)

    assert list(prediction.probabilities) == list(recogniser.emotions) == ["happy", "sad", "angry"]
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert (
        prediction.probability == max(prediction.probabilities.values()) == prediction.probabilities[prediction.emotion]
    )
    assert 0 < prediction.speech_seconds <= 0.6
    assert np.linalg.norm(prediction.embedding) == pytest.approx(1, abs=1e-5)
    network = recogniser.config.network
    assert prediction.embedding.shape == (network.clusters * network.descriptor_size,)


def test_there_is_a_ghost_share_for_each_true_descriptor(recognisers):
    recogniser = recognisers["S3"]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000)  # padded to 3 s
    prediction = recogniser(noise, 16_000)
    frames = 1 + (round(prediction.speech_seconds * 16_000) - 512) // 160
    assert len(prediction.ghost_share) == (frames + 1) // 2 // 2  # stem and pool; the shallow network has no other
    assert (prediction.ghost_share > 0).all()
    assert (prediction.ghost_share < 1).all()


@pytest.mark.parametrize("strategy", KINDS)
def test_it_names_what_the_run_named_and_needs_no_corpus(finetuned, tones, tmp_path, strategy):
    run = finetuned(strategy)
    rows = predictions_of(run)
    recordings = {row["file"]: (tones.parent / row["file"]).read_bytes() for row in rows}
    away = tones.parent.rename(tmp_path / "away")
    try:
        recogniser = load(run.path)
        for row in rows:
            prediction = recogniser(recordings[row["file"]])
            assert prediction.emotion == row["prediction"]
            # The run predicted in batches, which sum in another order.
            expected = [float(row[emotion]) for emotion in recogniser.emotions]
            np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-4)
    finally:
        away.rename(tones.parent)


def test_it_computes_in_the_precision_of_the_run(run_copy):
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace("precision: float32", "precision: mixed_bfloat16"))
    (run_copy / "checksums.sha256").unlink()
    assert load(run_copy).embedding.get_layer("stem").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_an_array_needs_its_rate(recognisers):
    recogniser = recognisers["S3"]
    with pytest.raises(
        UserError, match=r"rate_hz: expected the sampling rate of the array in Hz\. Received: rate_hz=None"
    ):
        recogniser(np.zeros(16_000, "float32"))


def one_hour(path):
    """An hour at 8 bit and 8 kHz: a header, speech, and a sparse hole that takes no disk space."""
    samples = 3600 * 8000
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", samples + 36, b"WAVE", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8, b"data", samples
    )
    with path.open("wb") as file:
        file.write(header + bytes(range(256)) * 32)
        file.truncate(len(header) + samples)


BAD = {
    "an hour": (one_hour, r"at most 600 s\. Received: 3600\.0 s; cut it into utterances"),
    "10 ms": (lambda path: soundfile.write(path, np.ones(160) / 2, 16_000), r"at least 32 ms of sound\. Received: 10"),
    "silent": (lambda path: soundfile.write(path, np.zeros(16_000), 16_000), r"Received: 1\.0 s that are silent"),
    "NaN": (
        lambda path: soundfile.write(path, np.full(16_000, np.nan, "float32"), 16_000, subtype="FLOAT"),
        r"expected finite samples\. Received: 16000 that are NaN or Inf",
    ),
    "zero bytes": (lambda path: path.touch(), r"Received: a file of zero bytes; fetch it again"),
    "truncated": (None, r"truncated: it stops after \d+ samples, before its end; fetch it again"),
    "LFS pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        r"Received: a git-LFS pointer; fetch the audio with `git lfs pull`",
    ),
    "no audio": (
        lambda path: path.write_text("not a recording"),
        r"expected a recording. Received: a text, 'not a recording'; fetch the recording itself",
    ),
    "absent": (lambda path: None, r"expected a recording, but there is no such file"),
    "directory": (lambda path: path.mkdir(), r"Received: a directory"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_recording_is_refused_by_name(recognisers, tone, tmp_path, bad):
    make, message = BAD[bad]
    path = tmp_path / "bad.wav"
    if make is None:
        path.write_bytes(tone.read_bytes()[:-1000])
    else:
        make(path)
    with pytest.raises(UserError, match=rf"^{path}: .*{message}") as error:
        recognisers["S3"](path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda run: (run / "metrics.json").unlink(),
            "this run is not finished; start the same ser-tf finetune command",
        ),
        (lambda run: (run / "run.json").unlink(), "run.json: expected a readable JSON file; give the folder of a run"),
        (lambda run: shutil.rmtree(run), "expected the folder of a run; there is none"),
        (lambda run: (run / "config.yaml").unlink(), "config.yaml: expected a configuration in YAML"),
        (
            lambda run: write_json(run / "run.json", {"identity": {"pretraining": {}}}),
            "expected a run that names emotions. Received: a pre-training, which distinguishes speakers; fine-tune it: "
            "ser-tf finetune --weights .*/embedding.weights.h5",
        ),
        (lambda run: (run / "classifier.json").unlink(), "expected a classifier written by ser-tf"),
        (lambda run: (run / "embedding.weights.h5").unlink(), "embedding.weights.h5: expected a file of weights"),
        (
            lambda run: (run / "head.weights.h5").write_bytes(b"half"),
            "head.weights.h5: differs from what the run wrote",
        ),
        (
            lambda run: (run / "checksums.sha256").write_bytes(b"\xff"),
            "checksums.sha256: expected checksums of the run",
        ),
    ],
    ids=[
        "unfinished",
        "no run",
        "absent",
        "no configuration",
        "pre-training",
        "no classifier",
        "no weights",
        "damaged head",
        "damaged checksums",
    ],
)
def test_a_run_that_cannot_be_loaded_is_refused_by_name(run_copy, spoil, message):
    spoil(run_copy)
    with pytest.raises(UserError, match=rf"^{run_copy}.*{message}") as error:
        load(run_copy)
    assert "\n" not in str(error.value)


def test_an_interrupted_export_is_told_from_a_finished_one(tmp_path):
    (tmp_path / f"{UNFINISHED}abc").mkdir()
    (tmp_path / f"{UNFINISHED}abc" / "saved_model.pb").touch()
    for path in (tmp_path, tmp_path / f"{UNFINISHED}abc"):
        message = rf"^{path}: expected a finished export\. Received: one that was interrupted; export again$"
        with pytest.raises(UserError, match=message):
            load(path)
    (tmp_path / "1").mkdir()  # half copied by hand
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(UserError, match=rf"^{tmp_path}/1: expected a version written by ser-tf export; .*; export"):
        load(tmp_path)


def change_emotions(run):
    path = run / "classifier.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"emotions": ["glad", "blue", "mad"]}))


def change_a_weight(run):
    with h5py.File(run / "embedding.weights.h5", "a") as file:
        file["layers/conv2d/vars/0"][0, 0, 0, 0] += 0.25


@pytest.mark.parametrize("change", [change_emotions, change_a_weight])
def test_files_that_are_not_as_the_run_wrote_them_are_refused(change, run_copy):
    load(run_copy)
    change(run_copy)
    with pytest.raises(UserError, match=rf"^{run_copy}/.*: differs from what the run wrote, by checksums.sha256; "):
        load(run_copy)


def test_a_run_without_checksums_is_loaded_as_older_versions_left_it(run_copy, tone):
    change_emotions(run_copy)
    (run_copy / "checksums.sha256").unlink()
    assert ser_tf.load(str(run_copy))(tone).emotion in ("glad", "blue", "mad")


def test_an_svm_of_another_network_is_refused(finetuned, tmp_path):
    run = shutil.copytree(finetuned("S5").path, tmp_path / "run")
    for name in ("classifier.json", "svm.skops"):  # an older version's, on embeddings of 4 numbers
        shutil.copyfile(OLD_RUNS / "3_emotions" / name, run / name)
    (run / "checksums.sha256").unlink()
    with pytest.raises(
        UserError, match=rf"^{run}: expected an SVM on embeddings of size \d+, .* Received: one of size 4;"
    ):
        load(run)


def test_a_process_that_was_forked_afterwards_is_told_what_to_do(recognisers, tone, finetuned, tmp_path):
    exported = load(export(finetuned("S3").path, tmp_path / "out", ""))
    for recogniser in (recognisers["S3"], exported):
        recogniser(tone)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                recogniser(tone)
            except UserError as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        message = os.read(reading, 10_000).decode()
        os.close(reading)
        assert message.startswith(
            f"this process ({child}) was forked from the one that loaded the model ({os.getpid()})"
        )
        assert "load the model in each worker, as docs/serving.md shows" in message
        recogniser(tone)
