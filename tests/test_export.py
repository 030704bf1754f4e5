"""A run as a SavedModel: it answers as the run does, needs no other file, and appears complete or not at all."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soxr
import tensorflow as tf
from conftest import REAL
from tensorflow.core.protobuf import saved_model_pb2

import ser_tf
from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.classifier import Classifier
from ser_tf.config import Config
from ser_tf.errors import UserError
from ser_tf.runs.lock import LOCK, alone_in
from ser_tf.serving import export as exporting
from ser_tf.serving.export import MODEL_CARD, PROVENANCE, export
from ser_tf.serving.export_folder import CONFIG, LABELS, PREDICTIONS, UNFINISHED
from ser_tf.serving.loading import load
from ser_tf.serving.predict import load_run

pytestmark = pytest.mark.usefixtures("shallow")

KINDS = ("S3", "S5")  # softmax, SVM
CARD = "# Model card\n"
ANSWERS = {"emotion", "probabilities", "embedding", "ghost_share", "speech_seconds", "problem"}


@pytest.fixture(scope="module")
def exports(shallow, finetuned, tmp_path_factory):
    """The folder of the first export of each run."""
    folder = tmp_path_factory.mktemp("exports")
    for strategy in KINDS:
        assert export(finetuned(strategy).path, folder / strategy, CARD) == folder / strategy / "1"
    return {strategy: folder / strategy for strategy in KINDS}


@pytest.fixture(scope="module")
def recognisers(exports, finetuned):
    """The run of each strategy, and its export."""
    return {strategy: (load_run(finetuned(strategy).path), ser_tf.load(exports[strategy])) for strategy in KINDS}


@pytest.fixture(params=["tones", "real speech"])
def recordings(request, tones):
    """Recordings for both a run and its export."""
    if request.param == "tones":
        return recordings_of(tones)
    return [request.getfixturevalue("shared_data") / name for name in REAL]


@pytest.fixture
def instant(monkeypatch):
    """Exports that instantly write a file in place of a SavedModel."""

    def write(line, run, card, folder):
        (folder / "saved_model.pb").write_text(card)

    monkeypatch.setattr(exporting, "load_run", lambda run: None)
    monkeypatch.setattr(exporting, "LineGraph", lambda recogniser: None)
    monkeypatch.setattr(exporting, "_write", write)


def recordings_of(tones):
    return [tones.parent / f"{name}.wav" for name in ("1-happy-0", "1-sad-1", "2-angry-2")]


def test_a_version_holds_signatures_and_assets(exports, finetuned):
    version = exports["S5"] / "1"
    assert {path.name for path in version.iterdir()} == {"saved_model.pb", "fingerprint.pb", "variables", "assets"}
    assets = version / "assets"
    assert {path.name for path in assets.iterdir()} == {LABELS, MODEL_CARD, PROVENANCE, CONFIG, PREDICTIONS}
    assert (assets / LABELS).read_text() == "happy\nsad\nangry\n"
    assert (assets / MODEL_CARD).read_text() == CARD
    assert (assets / PREDICTIONS).read_bytes() == finetuned("S5").predictions.read_bytes()
    assert Config.load(assets / CONFIG) == Config.load(finetuned("S5").config)
    provenance = json.loads((assets / PROVENANCE).read_text())
    assert provenance["run"] == finetuned("S5").read_identity()
    assert provenance["exported_with"]["packages"]["tensorflow"] == tf.__version__

    signatures = tf.saved_model.load(str(version)).signatures
    named = {
        name: (set(signature.structured_input_signature[1]), set(signature.structured_outputs))
        for name, signature in signatures.items()
    }
    assert named == {
        "serving_default": ({"waveform"}, ANSWERS),
        "padded": ({"waveform", "length"}, ANSWERS),
        "speech": ({"waveform", "length"}, ANSWERS),
        "spectrogram": ({"waveform", "length"}, {"spectrogram", "frames"}),
        "embed": ({"spectrogram", "frames"}, {"embedding", "ghost_share"}),
    }


@pytest.mark.parametrize("strategy", KINDS)
def test_it_is_used_like_the_run_and_says_the_same(recognisers, recordings, strategy):
    live, exported = recognisers[strategy]
    assert exported.emotions == live.emotions
    for path in recordings:
        expected, found = live(path), exported(path)
        assert (found.emotion, found.speech_seconds) == (expected.emotion, expected.speech_seconds)
        assert found.probability == found.probabilities[found.emotion]
        assert list(found.probabilities) == list(expected.probabilities)
        for name in ("embedding", "ghost_share"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)
        np.testing.assert_allclose(list(found.probabilities.values()), list(expected.probabilities.values()), atol=1e-5)
    assert exported(path.read_bytes()) == exported(read_waveform(path), 16_000) == exported(str(path))


def test_embeddings_of_the_export_fed_to_the_stored_svm_give_the_runs_own_answers(exports, finetuned, tones):
    run = finetuned("S5")
    classifier, vad = Classifier.load(run.path), Config.load(run.config).vad
    with run.predictions.open(newline="") as file:
        rows = list(csv.DictReader(file))
    speech = [remove_silence(read_waveform(tones.parent / row["file"]), vad).waveform for row in rows]
    lengths = [len(waveform) for waveform in speech]
    batch = np.stack([np.pad(waveform, (0, max(lengths) - len(waveform))) for waveform in speech])
    signatures = tf.saved_model.load(str(exports["S5"] / "1")).signatures
    spectrograms = signatures["spectrogram"](waveform=tf.constant(batch), length=tf.constant(lengths))
    probabilities = classifier.probabilities(signatures["embed"](**spectrograms)["embedding"].numpy())
    expected = [[float(row[emotion]) for emotion in classifier.emotions] for row in rows]
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    named = [classifier.emotions[best] for best in probabilities.argmax(axis=1)]
    assert named == [row["prediction"] for row in rows]


def test_it_needs_tensorflow_alone_and_only_its_own_operations(exports, tones):
    code = (
        "import sys, numpy, tensorflow as tf\n"
        "line = tf.saved_model.load(sys.argv[1])\n"
        "graph = line.signatures['serving_default'].graph.as_graph_def()\n"
        "nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]\n"
        "waveform = tf.constant(numpy.load(sys.argv[2])[None])\n"
        "print(line.signatures['serving_default'](waveform=waveform)['emotion'].numpy()[0].decode())\n"
        "print(*sorted({node.op for node in nodes}))\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('ser_tf', 'webrtcvad')]\n"
    )
    path = recordings_of(tones)[0]
    np.save(exports["S5"].parent / "waveform.npy", read_waveform(path))
    command = [sys.executable, "-P", "-c", code, exports["S5"] / "1", exports["S5"].parent / "waveform.npy"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    emotion, operations = process.stdout.splitlines()
    assert emotion == load(exports["S5"])(path).emotion
    assert "Conv2D" in operations.split()
    assert not {"PyFunc", "PyFuncStateless", "EagerPyFunc"} & set(operations.split())


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("strategy", KINDS)
def test_tensorflows_c_api_loads_it_and_answers_the_same(exports, recognisers, recordings, tmp_path, strategy):
    library = tf.sysconfig.get_lib()
    libraries = [f"-L{library}", "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{library}"]
    client, source = tmp_path / "predict", Path(__file__).parent / "predict.c"
    subprocess.run(["cc", f"-I{tf.sysconfig.get_include()}", source, "-o", client, *libraries], check=True)

    version = exports[strategy] / "1"
    graph = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs[0]
    signature = graph.signature_def["serving_default"]
    for path in recordings:
        read_waveform(path).tofile(tmp_path / path.stem)
    outputs = [signature.outputs[name].name for name in ("emotion", "probabilities", "speech_seconds", "problem")]
    files = [tmp_path / path.stem for path in recordings]
    command = [client, version, signature.inputs["waveform"].name, *outputs, "--", *files]
    *lines, after = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    assert (len(lines), after) == (len(recordings) * len(outputs), "")
    live, _ = recognisers[strategy]
    for place, path in enumerate(recordings):
        expected, answer = live(path), lines[place * len(outputs) :]
        assert answer[0] == expected.emotion
        distribution = [float(share) for share in answer[1].split()]
        np.testing.assert_allclose(distribution, list(expected.probabilities.values()), atol=1e-5)
        assert float(answer[2]) == pytest.approx(expected.speech_seconds, abs=1e-6)
        assert answer[3] == ""


def test_the_next_export_is_the_next_version_and_the_newest_is_loaded(instant, tmp_path):
    out = tmp_path / "new" / "out"
    assert [export(tmp_path, out, str(number)).name for number in range(11)] == [str(n) for n in range(1, 12)]
    assert (out / "1" / "saved_model.pb").read_text() == "0"
    with pytest.raises(UserError, match=rf"^{out}/11: expected a version written by ser-tf export; FileNotFound"):
        load(out)


def test_a_server_of_another_user_may_read_it(exports):
    assert all(folder.stat().st_mode & 0o555 == 0o555 for folder in (exports["S3"] / "1").rglob("*") if folder.is_dir())
    assert (exports["S3"] / "1").stat().st_mode & 0o777 == 0o755


KILLED = """
import os, signal, sys
from pathlib import Path
from ser_tf.serving import export as exporting

def write(line, run, card, folder):
    (folder / "saved_model.pb").write_text("half of")
    print(*(path.name for path in folder.parent.iterdir()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

exporting.load_run = exporting.LineGraph = lambda given: None
exporting._write = write
exporting.export(Path("run"), Path(sys.argv[1]), "card")
"""


def test_a_kill_leaves_no_version_and_the_next_export_clears_up(instant, tmp_path):
    export(tmp_path, tmp_path / "out", CARD)
    process = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "out"], capture_output=True, text=True, check=False
    )
    assert process.returncode == -signal.SIGKILL
    (left,) = {path.name for path in (tmp_path / "out").iterdir()} - {"1", LOCK}
    assert left in process.stdout.split()
    assert left.startswith(UNFINISHED)  # TensorFlow Serving takes only whole numbers for versions
    assert export(tmp_path, tmp_path / "out", CARD).name == "2"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"1", "2"}


SAVED = """
import sys, time
from pathlib import Path
from ser_tf.network import se_resnet
from ser_tf.serving.export import export

se_resnet.STAGES = (se_resnet.STAGES[0]._replace(blocks=1),)  # as the runs of these tests
Path.rename = lambda path, target: time.sleep(600)  # it would make the version: the kill comes before, however late
export(Path(sys.argv[1]), Path(sys.argv[2]), "card")
"""


def test_a_kill_while_tensorflow_saves_leaves_nothing_that_a_server_loads(finetuned, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", SAVED, finetuned("S3").path, out], stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(file.is_file() for file in out.glob("*/**/*")):
        pass
    process.kill()
    assert process.wait() == -signal.SIGKILL
    (left,) = (path for path in out.iterdir() if path.name != LOCK)
    assert left.name.startswith(UNFINISHED)  # and TensorFlow Serving takes only whole numbers for versions
    for path in (out, left):
        with pytest.raises(
            UserError, match=rf"^{path}: expected a finished export\. Received: one that was interrupted"
        ):
            load(path)


def test_a_failure_leaves_nothing(instant, monkeypatch, tmp_path):
    def write(line, run, card, folder):
        (folder / "saved_model.pb").touch()
        raise OSError("full")

    monkeypatch.setattr(exporting, "_write", write)
    with pytest.raises(OSError, match="full"):
        export(tmp_path, tmp_path / "out", CARD)
    assert not list((tmp_path / "out").iterdir())


def a_file(out):
    out.write_text("mine")


def something_else(out):
    out.mkdir()
    (out / "thesis.tex").touch()


def a_number_without_a_model(out):
    (out / "7").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "received"),
    [
        (a_file, "a file"),
        (something_else, r"one that holds thesis\.tex"),
        (a_number_without_a_model, "one that holds 7"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_alone(instant, tmp_path, make, received):
    out = tmp_path / "out"
    make(out)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=rf"^{out}: expected a new folder or that of an export\. Received: {received}"):
        export(tmp_path, out, CARD)
    assert sorted(tmp_path.rglob("*")) == before


def test_two_exports_at_once_are_refused(instant, tmp_path):
    with alone_in(tmp_path), pytest.raises(UserError, match=rf"^{tmp_path}: another ser-tf command is at work in it"):
        export(tmp_path, tmp_path, CARD)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("metrics.json", "this run is not finished"),
        ("classifier.json", "expected a classifier written by ser-tf"),
        ("svm.npz", "expected a classifier written by ser-tf"),
        ("embedding.weights.h5", "expected a file of weights"),
    ],
)
def test_a_run_that_cannot_be_loaded_is_refused_before_anything_is_written(finetuned, tmp_path, missing, message):
    run = shutil.copytree(finetuned("S5").path, tmp_path / "run")
    (run / missing).unlink()
    with pytest.raises(UserError, match=rf"^{run}.*{message}"):
        export(run, tmp_path / "out", CARD)
    assert not (tmp_path / "out").exists()


def test_a_recording_that_the_graph_refuses_is_refused_by_name(exports):
    exported = load(exports["S3"])
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 61 * 16_000)
    with pytest.raises(UserError, match=r"^recording: expected at most 60 s of speech; cut it into utterances"):
        exported(noise, 16_000)


def arrays(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype("float32")


BAD = {
    "NaN": (np.where(arrays(16_000) > 0.4999, np.nan, arrays(16_000)), 16_000, "expected finite samples. Received: "),
    "infinite": (np.full(16_000, np.inf), 16_000, "expected finite samples. Received: 16000 that are NaN or Inf"),
    "int16 as float": (
        np.rint(arrays(16_000) * 32_768),
        16_000,
        "whole numbers, so perhaps int16 that were not scaled",
    ),
    "int64": (np.ones(16_000, np.int64), 16_000, "expected int8, int16, int32, uint8 or float. Received: dtype=int64"),
    "empty": (arrays(0), 16_000, "expected a sound. Received: no samples"),
    "one sample": (arrays(1), 16_000, "expected at least 32 ms of sound. Received: 0.1 ms"),
    "silent": (np.zeros(16_000), 16_000, "expected a sound. Received: 1.0 s that are silent"),
    "ten minutes and more": (np.ones(601_000), 1000, "expected a recording of at most 600 s. Received: 601.0 s"),
    "a batch": (arrays(2, 16_000), 16_000, "expected shape [N] or [N, channels]. Received: shape=[2, 16000]"),
    "no rate": (arrays(16_000), None, "rate_hz: expected the sampling rate of the array in Hz"),
    "a rate of zero": (arrays(16_000), 0, "a rate in Hz, a whole number from 1,000 to 1,000,000. Received: rate_hz=0"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_run_and_its_export_refuse_a_bad_array_in_the_same_words(recognisers, bad):
    samples, rate_hz, message = BAD[bad]
    lines = set()
    for recogniser in recognisers["S3"]:
        with pytest.raises(UserError) as error:
            recogniser(samples, rate_hz)
        lines.add(str(error.value))
    (line,) = lines
    assert message in line
    assert "\n" not in line


def test_a_run_and_its_export_hear_any_rate_channels_and_integers(recognisers):
    low = arrays(8000)
    waveform = soxr.resample(low, 8000, 16_000, quality="HQ").clip(-1, 1)
    for recogniser in recognisers["S3"]:
        assert recogniser(low, 8000) == recogniser(waveform, 16_000)
        assert recogniser(np.stack([low, low], axis=1), 8000) == recogniser(low, 8000)
        whole = np.rint(low * 32_767).astype(np.int16)
        assert recogniser(whole, 8000) == recogniser(whole.astype("float32") / 32_768, 8000)


@pytest.mark.parametrize("missing", ["assets/labels.txt", "assets/config.yaml", "variables/variables.index"])
def test_a_damaged_version_is_refused_by_name(exports, tmp_path, missing):
    version = shutil.copytree(exports["S3"] / "1", tmp_path / "1")
    (version / missing).unlink()
    with pytest.raises(UserError, match=rf"^{version}: expected a version written by ser-tf export; ") as error:
        load(version)
    assert "\n" not in str(error.value)


def test_a_graph_of_tensorflow_needs_keras_on_tensorflow(finetuned, tmp_path, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(
        UserError,
        match=r"export: expected Keras on TensorFlow. Received: KERAS_BACKEND=jax; set KERAS_BACKEND=tensorflow",
    ):
        export(finetuned("S3").path, tmp_path / "out", "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (tf.errors.ResourceExhaustedError, "No space left on device"),
        (tf.errors.UnknownError, "Disk quota exceeded"),
        (tf.errors.PermissionDeniedError, "Permission denied"),
    ],
)
def test_a_disk_that_cannot_be_written_is_said_and_nothing_is_left(instant, monkeypatch, tmp_path, error, reason):
    def write(line, run, card, folder):
        (folder / "saved_model.pb").touch()
        raise error(None, None, f"{folder}/variables/part_of_data; {reason}")

    monkeypatch.setattr(exporting, "_write", write)
    with pytest.raises(OSError, match=reason) as caught:
        export(tmp_path, tmp_path / "out", CARD)
    assert caught.value.filename == str(tmp_path / "out")  # of which the command line makes one line
    assert not list((tmp_path / "out").iterdir())


def test_another_error_of_tensorflow_stays_what_it_is(instant, monkeypatch, tmp_path):
    def write(line, run, card, folder):
        raise tf.errors.InternalError(None, None, "a slip")

    monkeypatch.setattr(exporting, "_write", write)
    with pytest.raises(tf.errors.InternalError):
        export(tmp_path, tmp_path / "out", CARD)
