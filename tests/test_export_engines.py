"""A run as ONNX and for LiteRT: each engine answers as the run does, with the code of docs/serving.md."""

import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import BROKEN, REAL

from ser_tf.audio.spectrogram import spectrogram
from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import Config
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError
from ser_tf.runs.lock import LOCK, alone_in
from ser_tf.serving import engines
from ser_tf.serving.engines import calibration_speech, export_litert, export_onnx
from ser_tf.serving.export import MODEL_CARD, PROVENANCE
from ser_tf.serving.export_folder import LABELS
from ser_tf.serving.predict import load_run

pytestmark = pytest.mark.usefixtures("shallow")

CARD = "# Model card\n"
ASSETS = {LABELS, MODEL_CARD, PROVENANCE, "config.yaml", "predictions.csv"}
DOCUMENT = Path(__file__).parents[1] / "docs" / "serving.md"
PACKAGES = {"onnxruntime": "onnx", "openvino": "onnx", "ai_edge_litert": "litert"}
"""Of each engine, and the format it takes."""


@pytest.fixture(scope="module")
def exports(shallow, finetuned, tones, tmp_path_factory):
    """Export a run to a format on first use; returns the folder that contains `exports`."""
    folder = tmp_path_factory.mktemp("exports")

    def exported(strategy: str, form: str) -> Path:
        out = folder / strategy / "exports" / form
        if not out.exists():
            run = finetuned(strategy).path
            if form == "onnx":
                pytest.importorskip("tf2onnx")
                assert export_onnx(run, out, CARD) == out
            else:
                with pytest.warns(UserWarning, match=f"left out: .*{BROKEN}"):
                    assert export_litert(run, out, CARD, open_corpus(tones)) == out
        return folder / strategy

    return exported


def recordings_of(tones):
    return [tones.parent / f"{name}.wav" for name in ("1-happy-0", "1-sad-1", "2-angry-2")]


def blocks(word: str) -> str:
    """The document's Python code that contains a word."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if word in block]
    return code


def ask(package: str, clip: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The answer of the document's code, run in a folder of exports, to a clip or to given inputs."""
    Path("clip.wav").unlink(missing_ok=True)
    Path("clip.wav").symlink_to(clip)
    names: dict = {}
    exec(blocks("inputs = ").replace("FORMAT", PACKAGES[package]), names)
    names["inputs"].update(inputs)
    exec(blocks(package), names)
    return names["answers"]


@pytest.mark.parametrize(("package", "strategy"), [("onnxruntime", "S3"), *((package, "S5") for package in PACKAGES)])
def test_each_engine_says_what_the_run_says(exports, finetuned, tones, monkeypatch, package, strategy):
    pytest.importorskip(package)
    monkeypatch.chdir(exports(strategy, PACKAGES[package]))
    live = load_run(finetuned(strategy).path)
    expect_live(live, package, recordings_of(tones))


@pytest.mark.parametrize("package", PACKAGES)
def test_each_engine_says_what_the_run_says_of_real_recordings(exports, finetuned, shared_data, monkeypatch, package):
    pytest.importorskip(package)
    monkeypatch.chdir(exports("S5", PACKAGES[package]))
    expect_live(load_run(finetuned("S5").path), package, [shared_data / name for name in REAL])


def expect_live(live, package, recordings):
    for path in recordings:
        expected, found = live(path), ask(package, path)
        np.testing.assert_allclose(found["probabilities"][0], list(expected.probabilities.values()), atol=1e-4)
        assert live.emotions[found["probabilities"][0].argmax()] == expected.emotion
        np.testing.assert_allclose(found["embedding"][0], expected.embedding, atol=1e-4)
        descriptors = len(expected.ghost_share)
        np.testing.assert_allclose(found["ghost_share"][0][:descriptors], expected.ghost_share, atol=1e-4)
        assert found["descriptors"] == [descriptors]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_recording_of_a_batch_gets_the_answer_it_gets_alone(exports, tones, monkeypatch, package):
    pytest.importorskip(package)
    monkeypatch.chdir(exports("S5", PACKAGES[package]))
    path = recordings_of(tones)[0]
    alone = ask(package, path)
    speech = read_waveform(path)
    batch = np.full((2, len(speech)), np.float32(0.3))
    batch[0] = speech
    batch[1, :4000] = speech[:4000]
    short = ask(package, path, waveform=speech[None, :4000], length=np.array([4000], np.int32))
    whole = ask(package, path, waveform=speech[None], length=np.array([len(speech)], np.int32))
    found = ask(package, path, waveform=batch, length=np.array([len(speech), 4000], np.int32))
    for name in ("probabilities", "embedding", "descriptors"):
        np.testing.assert_allclose(found[name][0], whole[name][0], atol=1e-5)
        np.testing.assert_allclose(found[name][1], short[name][0], atol=1e-5)
    assert np.abs(found["embedding"][1] - alone["embedding"][0]).max() > 1e-3


def test_an_onnx_file_names_its_inputs_outputs_and_labels(exports):
    onnx = pytest.importorskip("onnx")
    folder = exports("S3", "onnx") / "exports" / "onnx"
    assert {path.name for path in folder.iterdir()} == {*ASSETS, "emotion.onnx"}
    assert (folder / LABELS).read_text() == "happy\nsad\nangry\n"
    told = f"{CARD}\n## Files beside this card\n\n`emotion.onnx` computes in float32. Silence must be removed first, "
    assert (folder / MODEL_CARD).read_text().startswith(told)
    model = onnx.load(folder / "emotion.onnx")
    assert {value.name for value in model.graph.input} == {"waveform", "length"}
    assert {value.name for value in model.graph.output} == {"probabilities", "embedding", "ghost_share", "descriptors"}
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("labels", "happy\nsad\nangry")]
    assert {node.domain for node in model.graph.node} == {""}  # ONNX's own operations


def test_litert_files_have_their_signatures_and_sizes(exports):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    folder = exports("S5", "litert") / "exports" / "litert"
    names = ("emotion.tflite", "emotion-float16.tflite", "network-int8.tflite")
    assert {path.name for path in folder.iterdir()} == {*ASSETS, *names}
    outputs = ["descriptors", "embedding", "ghost_share", "probabilities"]
    assert [interpreters.Interpreter(str(folder / name)).get_signature_list() for name in names] == [
        {"speech": {"inputs": ["length", "waveform"], "outputs": outputs}},
        {"speech": {"inputs": ["length", "waveform"], "outputs": outputs}},
        {"network": {"inputs": ["spectrogram"], "outputs": outputs}},
    ]
    whole, half, _ = ((folder / name).stat().st_size for name in names)
    told = (folder / MODEL_CARD).read_text()
    assert told.startswith(f"{CARD}\n## Files beside this card\n\n`emotion.tflite` computes in float32; `")
    assert all(f"`{name}`" in told for name in names)
    assert "Silence must be removed first" in told
    assert "for these files they were not measured." in told
    assert half < 0.75 * whole  # the graph of so small a network is a good part of it


def test_fewer_bits_cost_little(exports, finetuned, tones):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    folder = exports("S5", "litert") / "exports" / "litert"
    files = ("emotion-float16", "network-int8")
    half, integer = (interpreters.Interpreter(str(folder / f"{file}.tflite")).get_signature_runner() for file in files)
    live = load_run(finetuned("S5").path)
    paths = sorted(tones.parent.glob("[12]-*.wav"))
    same = []
    for path in paths:
        speech = remove_silence(read_waveform(path), live.config.vad).waveform
        values, _ = spectrogram(speech[None], [len(speech)], live.config.spectrogram)
        expected = live(path)
        found = half(waveform=speech[None], length=np.array([len(speech)], np.int32))["embedding"][0]
        assert found @ expected.embedding > 0.999
        named = integer(spectrogram=values.numpy())["probabilities"][0].argmax()
        same.append(live.emotions[named] == expected.emotion)
    assert np.mean(same) > 0.9


@pytest.mark.parametrize("export", [export_onnx, export_litert])
def test_a_folder_that_exists_is_refused_before_the_run_is_looked_at(tmp_path, export):
    if export is export_onnx:
        pytest.importorskip("tf2onnx")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=rf"^{tmp_path}/out: expected a new folder\. Received: one that exists"):
        export(tmp_path / "no run", tmp_path / "out", CARD)
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from ser_tf.serving import engines

def load_run(run, policy):
    (unfinished,) = Path(sys.argv[1]).parent.iterdir()
    (unfinished / "out" / "network-int8.tflite").write_text("half of")
    os.kill(os.getpid(), signal.SIGKILL)

engines.load_run = load_run
engines.export_litert(Path("run"), Path(sys.argv[1]), "card")
"""


def test_a_kill_leaves_no_export_and_the_next_one_clears_up(finetuned, tmp_path, monkeypatch):
    out = tmp_path / "out"
    process = subprocess.run([sys.executable, "-c", KILLED, out], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL
    assert {file.name for file in tmp_path.rglob("*.*")} == {"network-int8.tflite", LOCK}
    monkeypatch.setattr(engines, "_litert", lambda *arguments, **keywords: b"whole")
    assert export_litert(finetuned("S3").path, out, CARD) == out
    assert list(tmp_path.iterdir()) == [out]
    assert {path.name for path in out.iterdir()} == {*ASSETS, "emotion.tflite", "emotion-float16.tflite"}


def test_two_exports_to_one_folder_are_refused_and_to_others_beside_it_are_not(finetuned, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_litert", lambda *arguments, **keywords: b"whole")
    workplace = tmp_path / "unfinished-out"
    file = workplace / "out" / "emotion.tflite"
    file.parent.mkdir(parents=True)
    file.touch()
    with alone_in(workplace):
        with pytest.raises(UserError, match=rf"^{workplace}: another ser-tf command is at work in it"):
            export_litert(finetuned("S3").path, tmp_path / "out", CARD)
        export_litert(finetuned("S3").path, tmp_path / "other", CARD)
    assert file.exists()


def test_a_failure_leaves_nothing(finetuned, tmp_path, monkeypatch):
    def convert(*arguments, **keywords):
        raise OSError("full")

    monkeypatch.setattr(engines, "_litert", convert)
    with pytest.raises(OSError, match="full"):
        export_litert(finetuned("S3").path, tmp_path / "out", CARD)
    assert not list(tmp_path.iterdir())


def test_a_missing_converter_is_said_in_one_line(finetuned, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(
        UserError, match=r"^export to ONNX needs tf2onnx; install the extra: pip install -e '.\[onnx\]'$"
    ):
        export_onnx(finetuned("S3").path, tmp_path / "out", CARD)
    assert not list(tmp_path.iterdir())


def test_calibration_needs_the_corpus_of_the_run(finetuned, tones, tmp_path):
    table = tmp_path / "others.csv"
    table.write_text(
        "path,speaker,emotion\n"
        + "".join(f"{tones.parent}/{n}-sad-0.wav,{n},sad\n" for n in ("1", "2"))
        + f"{tones.parent}/1-happy-0.wav,1,happy\n"
    )
    with pytest.raises(UserError, match=r"expected recordings of the speakers .* was trained on, such as .*:3;"):
        calibration_speech(finetuned("S3").path, open_corpus(table))


def test_a_run_in_mixed_precision_is_loaded_in_float32(finetuned, tmp_path):
    run = shutil.copytree(finetuned("S3").path, tmp_path / "run")
    config = Config.load(run / "config.yaml")
    replace(config, training=replace(config.training, precision="mixed_bfloat16")).save(run / "config.yaml")
    (run / "checksums.sha256").unlink()
    policies = {load_run(run, policy).embedding.get_layer("stem").compute_dtype for policy in (None, "float32")}
    assert policies == {"bfloat16", "float32"}


def test_a_graph_of_tensorflow_needs_keras_on_tensorflow(finetuned, tmp_path, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(UserError, match=r"export: expected Keras on TensorFlow"):
        export_litert(finetuned("S3").path, tmp_path / "out", CARD)


def test_the_document_reads_the_configuration_of_the_export(exports, finetuned):
    folder = exports("S5", "litert") / "exports" / "litert"
    assert Config.load(folder / "config.yaml") == Config.load(finetuned("S5").config)
