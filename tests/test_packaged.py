"""A packed model answers as its run does, without TensorFlow; its card says what the run folders say."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REAL

import ser_tf
from ser_tf.audio.waveform import read_waveform
from ser_tf.cli.models import card_lines
from ser_tf.errors import UserError
from ser_tf.runs.folder import RunFolder
from ser_tf.serving import packaged, recognition
from ser_tf.serving.loading import load
from ser_tf.serving.onnx_recogniser import BATCH_SAMPLES

pytest.importorskip("tf2onnx")
from ser_tf.config import Config
from ser_tf.serving import packing
from ser_tf.serving.engines import ONNX_OPSET
from ser_tf.serving.packing import pack, store_large_weights_in_16_bits
from ser_tf.serving.predict import load_run

pytestmark = pytest.mark.usefixtures("shallow")

SHIPPED = packaged.packaged_models()
HEAVY = ("tensorflow", "keras", "sklearn", "pandas", "matplotlib", "scipy")


@pytest.fixture(scope="module")
def run(shallow, finetuned, tmp_path_factory) -> Path:
    """A finished run whose scheme has one fold."""
    copy = shutil.copytree(finetuned("S3").path, tmp_path_factory.mktemp("run") / "S3")
    change(copy / "metrics.json", folds=1)
    return copy


@pytest.fixture(scope="module")
def models(run, tmp_path_factory) -> Path:
    """A folder of packed models, as in the package."""
    folder = tmp_path_factory.mktemp("models")
    pack(run, [run], packaged.DEFAULT, folder)
    return folder


@pytest.fixture
def installed(models, tmp_path, monkeypatch) -> Path:
    """The same as the models of this package; a test may change them."""
    folder = shutil.copytree(models, tmp_path / "installed")
    monkeypatch.setattr(packaged, "MODELS", folder)
    return folder


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def utterance(seconds: float, generator: np.random.Generator) -> np.ndarray:
    """A buzz whose pitch and loudness wander, float32 at 16 kHz."""
    time = np.arange(round(16_000 * seconds)) / 16_000
    pitch = 150 + 40 * np.sin(2 * np.pi * 3 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    buzz = sum(np.sin(number * phase) / number for number in range(1, 12))
    return (0.1 * buzz * (1 + np.sin(7 * time)) + 0.01 * generator.normal(size=len(time))).astype(np.float32)


def expect_equal(found, expected):
    assert found.emotion == expected.emotion
    assert found.speech_seconds == expected.speech_seconds
    np.testing.assert_allclose(list(found.probabilities.values()), list(expected.probabilities.values()), atol=1e-4)
    np.testing.assert_allclose(found.embedding, expected.embedding, atol=1e-4)
    np.testing.assert_allclose(found.ghost_share, expected.ghost_share, atol=1e-4)


def test_it_answers_as_the_keras_network(installed, run, rng):
    live, packed = load(run), load()
    assert packed.emotions == live.emotions == ("happy", "sad", "angry")
    for seconds in (0.032, 0.1, 0.5, 1.23, 3, 20, 59):
        samples = utterance(seconds, rng)
        expect_equal(packed(samples, 16_000), live(samples, 16_000))


def test_it_answers_as_the_keras_network_on_real_speech(installed, run, shared_data):
    live, packed = load(run), load()
    paths = [shared_data / name for name in REAL]
    for path, found in zip(paths, packed(paths), strict=True):
        expect_equal(found, live(path))


@pytest.mark.parametrize("counts", [True, False])  # exports of older versions do not count
def test_a_batch_gives_each_recording_its_own_ghost_shares(installed, rng, monkeypatch, counts):
    short, long = ((utterance(seconds, rng), 16_000) for seconds in (0.6, 5))
    packed = load()
    own = len(packed(short).ghost_share)
    assert own < len(packed(long).ghost_share)
    session = packed._session

    class WithoutGhosts:
        def run(self, names, inputs):
            assert counts or len(inputs["length"]) == 1
            return [
                0 * value if name == "ghost_share" else value
                for name, value in zip(names, session.run(names, inputs), strict=True)
            ]

    monkeypatch.setattr(packed, "_session", WithoutGhosts())
    monkeypatch.setattr(packed, "_counts", counts)
    assert len(packed([short, long])[0].ghost_share) == own


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_answers(name, rng):
    card = SHIPPED[name].card()
    assert card["name"] == name
    prediction = load(name)(utterance(3, rng), 16_000)
    assert list(prediction.probabilities) == card["emotions"]
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_it_is_found_by_name_by_path_and_by_default(installed, models, rng, tmp_path, monkeypatch):
    samples = utterance(1, rng)
    shutil.copy(installed / f"{packaged.DEFAULT}.onnx", installed / "another.onnx")
    shutil.copy(installed / f"{packaged.DEFAULT}.json", installed / "another.json")
    assert list(packaged.packaged_models()) == [packaged.DEFAULT, "another"]
    expected = ser_tf.load()(samples, 16_000)
    for model in (packaged.DEFAULT, "another", Path("another"), models / f"{packaged.DEFAULT}.onnx"):
        assert ser_tf.load(model)(samples, 16_000) == expected
    monkeypatch.chdir(tmp_path)
    Path("another").mkdir()
    assert ser_tf.load("another")(samples, 16_000) == expected  # the packaged model of that name
    with pytest.raises(UserError, match=r"^another/run\.json: expected a readable JSON file"):
        ser_tf.load("./another")


def test_a_list_gets_what_each_recording_gets_alone(installed, run, tones, rng):
    path = tones.parent / "1-happy-0.wav"
    samples, rate = soundfile.read(path, dtype="float32")
    # 40 s, 30 s: more than a batch holds; and short ones after them.
    long = [(utterance(seconds, rng), 16_000) for seconds in (40, 30)]
    assert sum(len(samples) for samples, _ in long) > BATCH_SAMPLES
    recordings = [str(path), path, path.read_bytes(), (samples, rate), *long, (utterance(0.7, rng), 16_000)]
    for recogniser in (load(), load(run)):
        found = recogniser(recordings)
        assert len(found) == len(recordings)
        for prediction, recording in zip(found, recordings, strict=True):
            expect_equal(prediction, recogniser(recording))
    assert load()([]) == []


def test_a_long_list_shows_its_progress_on_a_terminal_alone(installed, rng, monkeypatch, capsys):
    recordings = [(utterance(0.1, rng), 16_000)] * recognition.LONG_LIST
    packed = load()
    packed(recordings)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    packed(recordings[1:])
    assert capsys.readouterr().err == ""
    packed(recordings)
    assert "recordings" in capsys.readouterr().err


def test_the_recording_of_a_list_that_cannot_be_read_is_named(installed, rng):
    samples = utterance(0.1, rng)
    with pytest.raises(UserError, match=r"^recordings\[1\]: expected finite samples"):
        load()([(samples, 16_000), (samples * np.nan, 16_000)])
    with pytest.raises(UserError, match=r"rate_hz=None for the recordings\[0\]; .* the pair \(array, rate\)$"):
        load()([samples])
    with pytest.raises(UserError, match=r"^absent\.wav: expected a recording, but there is no such file"):
        load()(["absent.wav"])


def test_it_tells_what_it_is(installed, run):
    assert repr(load()) == f"<OnnxRecogniser {installed / packaged.DEFAULT}.onnx: happy, sad, angry>"
    assert repr(load(run)) == f"<Recogniser {run}: happy, sad, angry>"


def command(installed: Path, *arguments: object, then: str = "") -> subprocess.CompletedProcess:
    """`ser-tf` in a new process, with these models as the package's own; `then` is code that runs after it."""
    code = (
        f"import sys\nfrom pathlib import Path\nfrom ser_tf.serving import packaged\n"
        f"packaged.MODELS = Path({str(installed)!r})\nfrom ser_tf.__main__ import main\nmain()\n{then}"
    )
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_predict_uses_it_and_imports_nothing_heavy(installed, tones):
    then = f"print(*sorted(sys.modules.keys() & {set(HEAVY)}), sep=',', file=sys.stderr)"
    path = tones.parent / "1-sad-0.wav"
    answer = command(installed, "predict", path, "--format", "json", then=then)
    assert (answer.returncode, answer.stderr) == (0, "\n")
    row = json.loads(answer.stdout)
    assert row["probabilities"] == pytest.approx(load()(path).probabilities, abs=1e-6)


def test_predict_takes_the_model_as_an_option(installed, models, tones):
    path = tones.parent / "1-sad-0.wav"
    named = ("--model", packaged.DEFAULT, path)
    expected = command(installed, "predict", path).stdout
    assert expected.splitlines()[1].endswith(str(path))
    for arguments in (named, ("--model", models / f"{packaged.DEFAULT}.onnx", path)):
        assert command(installed, "predict", *arguments).stdout == expected


def test_predict_abstains_and_tells_a_long_recording_over_time(installed, tones, rng, tmp_path):
    rows = ["side,file,speaker,truth,prediction,happy,sad,angry"]
    rows += [  # all are right: a risk of 0 is met
        f"{side},{side}{number}.wav,table:{number % 4},sad,sad,0.050000,0.900000,0.050000"
        for side in ("validation", "test")
        for number in range(40)
    ]
    (installed / f"{packaged.DEFAULT}.csv").write_text("\n".join(rows) + "\n")
    soundfile.write(tmp_path / "long.wav", np.concatenate([utterance(2, rng), np.zeros(16_000)] * 2), 16_000)
    answer = command(installed, "predict", tmp_path / "long.wav", "--risk", 0, "--timeline", tmp_path / "times")
    assert (answer.returncode, answer.stderr.count("\n")) == (0, 1)
    assert answer.stderr.startswith("ser-tf: never abstains, since all answers together keep a risk of 0.")
    told = json.loads((tmp_path / "times" / "timeline.json").read_text())
    assert [round(each["start_seconds"]) for each in told["utterances"]] == [0, 3]
    assert str(installed) in (tmp_path / "times" / "timeline.html").read_text()


def test_the_card_says_what_the_run_folders_say(installed, run):
    card = packaged.packaged_models()[packaged.DEFAULT].card()
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    scores = card["cross_validated"]
    assert (scores["corpus"], scores["folds"], scores["speakers"]) == ("table", [1], 1)
    assert scores["uar"]["value"] == pytest.approx(metrics["uar"])
    assert scores["wa"]["value"] == pytest.approx(metrics["wa"])
    assert scores["recall"].keys() == {"happy", "sad", "angry"}
    assert card["other_corpora"] == []
    # Trained on speakers 3 to 6, validated on 2.
    assert [(data["corpus"], data["speakers"]) for data in card["data"]] == [("table", 5)]
    assert card["provenance"]["run"] == RunFolder(run).read_identity()
    assert Config.of(card["config"], "card") == Config.load(run / "config.yaml")


def test_a_run_across_corpora_has_its_scores_on_the_other(run, tmp_path):
    across = shutil.copytree(run, tmp_path / "across")
    identity = json.loads((across / "run.json").read_text())
    identity["identity"] |= {"corpus": "table-to-ravdess", "trained_on": "table", "tested_on": "ravdess"}
    (across / "run.json").write_text(json.dumps(identity))
    card = pack(across, [run], "across", tmp_path).card()
    assert card["cross_validated"]["corpus"] == "table"
    (other,) = card["other_corpora"]
    assert other["corpus"] == "ravdess"
    assert other["uar"] == card["cross_validated"]["uar"]  # the same predictions here


def test_models_lists_the_facts_of_every_card(installed):
    answer = command(installed, "models")
    card = packaged.packaged_models()[packaged.DEFAULT].card()
    uar = card["cross_validated"]["uar"]["value"]
    assert answer.returncode == 0
    assert answer.stdout.startswith(f"{packaged.DEFAULT}  {installed / packaged.DEFAULT}.onnx, ")
    for fact in (
        "emotions         happy, sad, angry",
        "data             recordings of the user's own (table), 5 speakers; not known to ser_tf: ask whoever",
        f"cross-validated  table: UAR {100 * uar:.1f} %, accuracy ",
        "intended use     Not for decisions about people",
        "limits           It always answers with one of its 3 emotions",
    ):
        assert f"\n  {fact}" in answer.stdout


def test_scores_are_told_with_their_intervals():
    estimate = {"value": 0.6, "low": 0.55, "high": 0.651}
    scores = {"corpus": "crema_d", "folds": [1, 2], "utterances": 7435, "speakers": 91, "uar": estimate, "wa": estimate}
    card = {
        "emotions": [],
        "network": "",
        "data": [],
        "cross_validated": scores,
        "other_corpora": [scores | {"folds": [1], "uar": estimate | {"low": None}}],
        "intended_use": [],
        "limits": [],
    }
    assert list(card_lines(card))[2:] == [
        "  cross-validated  crema_d: UAR 60.0 % (95 % interval 55.0 to 65.1), accuracy 60.0 % (95 % interval 55.0 to "
        "65.1); 7435 utterances, 91 speakers, 2 folds",
        "  other corpus     crema_d: UAR 60.0 %, accuracy 60.0 % (95 % interval 55.0 to 65.1); 7435 utterances, "
        "91 speakers",
    ]


def test_a_large_matrix_is_stored_in_16_bits(run, rng, monkeypatch):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    recogniser = load_run(run)
    model = packing.onnx_of(recogniser)
    sizes = [np.prod(weights.dims) for weights in model.graph.initializer if len(weights.dims) == 2]
    monkeypatch.setattr(packing, "LARGE_WEIGHTS", min(sizes))  # all matrices, also those of the spectrogram's waves
    before = model.SerializeToString()
    store_large_weights_in_16_bits(model)
    onnx.checker.check_model(model)
    # Two bytes less for each number, but for the names and scales.
    assert len(before) - len(model.SerializeToString()) > 1.9 * sum(sizes) - 4 * 2000
    samples = utterance(1, rng)[None]
    inputs = {"waveform": samples, "length": np.array([16_000], np.int32)}
    old, new = (
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(["probabilities"], inputs)[0]
        for content in (before, model.SerializeToString())
    )
    np.testing.assert_allclose(new, old, atol=1e-4)
    assert not np.array_equal(new, old)


DAMAGED = {
    "half a model": (
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        r"crema_d\.onnx: expected the model that crema_d\.json describes, with SHA-256 [0-9a-f]{16}\.\.\. Received: "
        r"[0-9a-f]{16}\.\.\. \(1,000 bytes\); install ser_tf again$",
    ),
    "no card": (
        lambda path: path.with_suffix(".json").unlink(),
        r"crema_d\.json: expected a readable JSON file; crema_d\.onnx needs its card; install ser_tf again$",
    ),
    "a card of another shape": (
        lambda path: change(path.with_suffix(".json"), emotions="happy"),
        r"crema_d\.json: emotions: expected .*; crema_d\.onnx needs its card; install ser_tf again$",
    ),
    "a card of other emotions": (
        lambda path: change(path.with_suffix(".json"), emotions=["happy", "sad"]),
        r"crema_d\.onnx: expected a model in ONNX written by ser-tf; ValueError: probabilities of shape .* for 2 "
        r"emotions; install ser_tf again$",
    ),
    "a card of other parameters": (
        lambda path: change(path.with_suffix(".json"), config={"vad": {"mode": 9}}),
        r"crema_d\.json: .*mode: expected .*9",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_model_is_refused_by_name(installed, damage):
    make, message = DAMAGED[damage]
    make(installed / "crema_d.onnx")
    with pytest.raises(UserError, match=f"^{installed}/{message}") as error:
        load()
    assert "\n" not in str(error.value)


def test_a_model_of_something_else_is_refused(installed):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", ONNX_OPSET)])
    path = installed / "crema_d.onnx"
    for content, reason in (
        (model.SerializeToString(), "ValueError: inputs a and outputs b in place of length, waveform and embedding, "),
        (b"no model", ".*; install ser_tf again$"),
    ):
        path.write_bytes(content)
        change(path.with_suffix(".json"), sha256=packing.hashlib.sha256(content).hexdigest())
        with pytest.raises(UserError, match=rf"^{path}: expected a model in ONNX written by ser-tf; {reason}"):
            load()


def test_a_wrong_name_lists_what_there_is(installed):
    message = r"^crema: expected the folder of a run; there is none, nor a packaged model of this name: crema_d$"
    with pytest.raises(UserError, match=message):
        load("crema")


def test_folds_of_another_recipe_are_refused(run, finetuned, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    config = Config.load(other / "config.yaml")
    replace(config, training=replace(config.training, crop_seconds=0.4)).save(other / "config.yaml")
    message = (
        rf"^{other}: expected a fold that was trained as {run}, with the same configuration\. Received: another; give"
    )
    with pytest.raises(UserError, match=message):
        pack(run, [other], "mine", tmp_path)
    replace(config, training=replace(config.training, seed=7)).save(other / "config.yaml")
    change(other / "metrics.json", folds=3)
    with pytest.raises(UserError, match=r"^folds: expected the runs of all 3 folds of scheme complete\. Received: 1; "):
        pack(run, [other], "mine", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_an_export_to_onnx_is_loaded_like_a_run(run, rng, tmp_path):
    from ser_tf.serving.engines import export_onnx

    exported = load(export_onnx(run, tmp_path / "onnx", ""))
    samples = utterance(1, rng)
    expect_equal(exported(samples, 16_000), load(run)(samples, 16_000))
    (tmp_path / "onnx" / "emotion.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=rf"^{tmp_path}/onnx/emotion\.onnx: expected a model in ONNX .*; export again$"):
        load(tmp_path / "onnx")


def test_a_waveform_of_any_kind_is_read_once(installed, tones):
    path = tones.parent / "1-sad-0.wav"
    assert load()((read_waveform(path), 16_000)) == load()(path)
