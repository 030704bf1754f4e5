"""Run folders, weights and exports that commit 9ce7120 wrote still load and give the same answers.

`runs-9ce7120.tar.xz` holds an S3 run, an S5 run started from it, and an export of S3: the preset `tiny` with two
clusters and descriptors of 16 numbers, on short tones of four speakers, in one epoch with a learning rate of 0. The
weights were rounded to multiples of a quarter of each array's maximum to keep the file small.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import ser_tf
from ser_tf.config import Config
from ser_tf.errors import UserError
from ser_tf.network.se_resnet import embedding_network
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.predictions import read_side
from ser_tf.runs.weights import layers_afresh, read_provenance, read_recordings, refuse_leak, take_weights
from ser_tf.training.finetune import RESULT

ARCHIVE = Path(__file__).parent / "fixtures" / "runs-9ce7120.tar.xz"


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("name", ["S3", "S5", "export"])
def test_runs_and_exports_give_the_same_answer(old, name):
    expected = json.loads((old / "answers.json").read_text())[name]
    time = np.arange(16_000) / 16_000
    tones = 0.2 * np.sin(2 * np.pi * (150 + 200 * time) * time) + 0.1 * np.sin(2 * np.pi * 600 * time)
    prediction = ser_tf.load(old / name)(tones.astype(np.float32), rate_hz=16_000)
    assert prediction.probabilities == pytest.approx(expected["probabilities"], abs=1e-4)
    np.testing.assert_allclose(prediction.embedding, expected["embedding"], atol=1e-4)


@pytest.mark.parametrize("name", ["S3", "S5"])
def test_a_run_folder_is_read_as_finished(old, name):
    run = RunFolder(old / name)
    run.require_finished()
    assert run.read_identity()["strategy"] == name
    assert run.read_made_with()["commit"] is None  # made from an archive of the sources
    assert run.result(print, RESULT)["test"]["utterances"] == 9  # three takes of three emotions
    emotions, rows = read_side(run.predictions, "test")
    assert set(emotions) == {"sad", "angry", "happy"}
    assert len(rows) == 9


def test_weights_start_a_network_and_name_who_they_were_trained_on(old):
    weights, config = old / "S3" / "embedding.weights.h5", Config.load(old / "S3" / "config.yaml")
    trained_on = RunFolder(old / "S3").read_identity()["train_speakers"]
    provenance = read_provenance(weights)
    assert provenance["speakers"] == trained_on
    assert layers_afresh(provenance, config, weights) == ()
    fates = take_weights(embedding_network(config.network, config.spectrogram.bins), weights)
    assert {fate.fate for fate in fates} == {"taken"}
    recordings = read_recordings(weights)
    assert recordings is not None
    assert len(recordings) == 3 * 3 * len(trained_on)  # takes, emotions, speakers
    refuse_leak(weights, ["table:nobody"], {})
    with pytest.raises(UserError, match="trained on 1 of the fold's validation and test speakers"):
        refuse_leak(weights, trained_on[:1], {})
    with pytest.raises(UserError, match=r"trained on 1 of the fold's validation and test recordings \(copy\.wav\)"):
        refuse_leak(weights, [], {int(recordings[0]): "copy.wav"})
