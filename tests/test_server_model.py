"""`ser-tf serve` with a run, beside its export: the same interface and the same answers, so that a client may move."""

import json
import os
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from test_serving_clients import client, expect_printed

from benchmarks.networks import write_run
from benchmarks.server import started
from ser_tf.audio.waveform import read_waveform
from ser_tf.serving.export import export
from ser_tf.serving.predict import load_run

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.usefixtures("shallow")

SHALLOW = """
from ser_tf.network import se_resnet
se_resnet.STAGES = (se_resnet.STAGES[0]._replace(blocks=1),)
from ser_tf.__main__ import main
main()
"""
"""`ser-tf` with the network of the fixture `shallow`."""


@pytest.fixture(scope="module")
def run(shallow, small, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "emotion"
    write_run(folder, small)
    return folder


@pytest.fixture(scope="module")
def url(shallow, run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        with started(run, program=("-c", SHALLOW)) as (url, _):
            yield url


@pytest.fixture(scope="module")
def exported(shallow, run, tmp_path_factory) -> Path:
    return export(run, tmp_path_factory.mktemp("export"), "")


@pytest.fixture
def clips(tones) -> list[Path]:
    return [tones.parent / name for name in ("1-sad-0.wav", "2-happy-1.wav")]


def answer(url: str, path: str, content: bytes | None = None) -> dict:
    with urllib.request.urlopen(url + path, content, timeout=60) as reply:
        return json.load(reply)


def test_the_metadata_is_that_of_the_export(url, exported):
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((exported / "saved_model.pb").read_bytes())
    told = answer(url, "/v1/models/emotion/metadata")["metadata"]["signature_def"]["signature_def"]
    assert told.keys() == {"serving_default", "padded"}
    for name, signature in told.items():
        stored = json_format.MessageToDict(model.meta_graphs[0].signature_def[name], preserving_proto_field_name=True)
        assert signature["method_name"] == stored["method_name"]
        for side in ("inputs", "outputs"):
            assert forms(signature[side]) == forms(stored[side])


def forms(tensors: dict) -> dict[str, tuple[str, list[str]]]:
    """Type and sizes of each tensor; the names of its nodes are its own."""
    return {
        name: (tensor["dtype"], [dimension["size"] for dimension in tensor["tensor_shape"]["dim"]])
        for name, tensor in tensors.items()
    }


def test_both_signatures_answer_as_the_export(url, exported, clips):
    signatures = tf.saved_model.load(str(exported)).signatures
    waveforms = [read_waveform(clip) for clip in clips]
    lengths = [len(waveforms[0]), len(waveforms[1]) - 1000]
    batch = np.stack(waveforms)  # both tones last 0.6 s
    rows = [{"waveform": row.tolist(), "length": length} for row, length in zip(batch, lengths, strict=True)]
    requests = {
        "padded": ({"signature_name": "padded", "instances": rows}, {"length": tf.constant(lengths)}),
        "serving_default": ({"instances": batch.tolist()}, {}),
    }
    for name, (request, more) in requests.items():
        predictions = answer(url, "/v1/models/emotion:predict", json.dumps(request).encode())["predictions"]
        expected = signatures[name](waveform=tf.constant(batch), **more)
        assert {output for row in predictions for output in row} == expected.keys()
        for output, values in expected.items():
            told = [row[output] for row in predictions]
            if values.dtype == tf.string:
                assert told == [text.decode() for text in values.numpy()]
            else:
                np.testing.assert_allclose(told, values.numpy(), atol=1e-5)


def test_the_documents_client_for_tensorflow_serving(url, run, clips, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("clip.wav").symlink_to(clips[0])
    port = urlsplit(url).port
    assert port is not None
    exec(client("urllib", port), {})
    prediction = load_run(run)("clip.wav")
    expect_printed(capsys.readouterr().out, (prediction.emotion, list(prediction.probabilities.values())))


def test_a_file_gets_the_answer_of_predict(url, run, clips):
    told = answer(url, "/recognise", clips[0].read_bytes())
    prediction = load_run(run)(clips[0])
    assert (told["emotion"], told["speech_seconds"]) == (prediction.emotion, prediction.speech_seconds)
    assert told["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-6)
