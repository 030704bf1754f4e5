"""Every command as a user runs it, and one line for every error that a user can cause."""

import csv
import errno
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import BROKEN
from sklearn.metrics import accuracy_score

import ser_tf as ser_tf_package
from ser_tf.cli import door
from ser_tf.cli.training import _table_of_folds, summary_of
from ser_tf.config import PRESETS, Config
from ser_tf.corpora.demographics import Demographics
from ser_tf.errors import UserError
from ser_tf.serving import packaged
from ser_tf.statistics.summary import summarise
from ser_tf.training import finetune as finetuning
from ser_tf.training import monitor
from ser_tf.training.monitor import CollapseWarning

pytestmark = pytest.mark.usefixtures("shallow")

COMMANDS = (
    "audit",
    "synthesise",
    "prepare",
    "pretrain",
    "import-vggvox",
    "finetune",
    "evaluate",
    "yardsticks",
    "sweep",
    "cross-corpus",
    "noise",
    "report",
    "predict",
    "models",
    "export",
    "push",
    "pack",
    "describe",
)


@dataclass
class Answer:
    status: int
    out: str
    err: str


@pytest.fixture
def ser_tf(monkeypatch, capsys, tmp_path):
    """Runs a command in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packaged, "MODELS", tmp_path / "models")

    def run(*arguments) -> Answer:
        monkeypatch.setattr(sys, "argv", ["ser-tf", *map(str, arguments)])
        capsys.readouterr()  # what fixtures and earlier commands wrote
        status = 0
        try:
            door.main()
        except SystemExit as end:
            status = end.code or 0
            if isinstance(status, str):  # as the interpreter does it
                print(status, file=sys.stderr)
                status = 1
        return Answer(status, *capsys.readouterr())

    return run


def assert_one_line(answer: Answer, message: str, status: int = 1) -> None:
    assert answer.status == status
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("ser-tf: ")
    assert message in answer.err


def test_help_answers_without_tensorflow():
    code = (
        "import sys; from ser_tf.cli import door; sys.argv = ['ser-tf', '--help']\n"
        "try: door.main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(command in process.stdout for command in COMMANDS)
    assert "ser_tf.cli" in process.stderr.split()
    assert not {"tensorflow", "keras", "sklearn"} & set(process.stderr.split())


def test_the_version_is_that_of_the_package(ser_tf):
    answer = ser_tf("--version")
    assert (answer.status, answer.out, answer.err) == (0, f"ser-tf {version('ser_tf')}\n", "")
    assert ser_tf_package.__version__ == version("ser_tf")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(ser_tf, command):
    answer = ser_tf(command, "--help")
    assert (answer.status, answer.err) == (0, "")
    assert f"ser-tf {command}" in answer.out


def test_the_corpus_is_written_and_audited(ser_tf):
    answer = ser_tf("synthesise", "speech", "--speakers", 2, "--takes", 1)
    assert answer == Answer(0, "speech: 2 speakers\n", "")
    answer = ser_tf("audit", "speech", "--json", "report.json")
    assert answer.status == 0
    assert "16 utterances in 16 files, 2 speakers" in answer.out
    assert json.loads(Path("report.json").read_text())["utterances"] == 16


def test_describe_counts(ser_tf):
    answer = ser_tf("describe", "--preset", "tiny", "--network.clusters", 3)
    # 2 s are 1 + (32000 - 512) // 160 = 197 frames; the embedding has 3 clusters of the preset's 64.
    assert answer.status == 0
    assert "tiny, 2 s of speech" in answer.out
    assert "197 frames x 257 bins" in answer.out
    assert "embedding     192" in answer.out
    assert "parameters" in answer.out
    assert "multiply-adds" in answer.out


def test_pretrain_takes_folders_of_speakers_and_shards(ser_tf, small, monkeypatch, rng):
    from ser_tf.pretraining import prepare
    from ser_tf.pretraining.shard_writer import write_shard

    monkeypatch.setattr(prepare, "run_on_cores", lambda tasks, workers, prologue, report: map(write_shard, tasks))
    for number in range(18):
        path = Path("voices" if number < 9 else "others") / f"speaker-{number % 3}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(9600), 16_000)
    replace(small, training=replace(small.training, batch_size=2, maximum_epochs=1)).save(Path("preset.yaml"))
    assert ser_tf("prepare", "--corpus", "others", "--out", "shards").status == 0
    command = ("pretrain", "--corpus", "voices", "shards", "--preset", "preset.yaml", "--pretraining.held-out", 4)
    answer = ser_tf(*command)
    assert answer.status == 0, answer.err
    run = Path("runs/pretrain-voices+shards-preset-seed0")
    assert f"{run}: trained on 6 recordings of 2 speakers, verified on 4 others" in answer.out
    assert re.search(r"2 speakers not trained on, \d+ trials: equal error rate [\d.]+% \(untrained", answer.out)
    assert f"{run}/embedding.weights.h5: for finetune and evaluate --weights" in answer.out
    assert {path.name.partition("-")[0] for path in Path("runs/shards").iterdir()} == {"voices"}
    assert f"{run}: already finished" in ser_tf(*command).out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--corpus", "nowhere"),
            "nowhere: expected a directory of recordings or a CSV table. Received: nothing",
        ),
        (("--corpus", "nowhere", "--pretraining.trials", 1), "trials: expected at least 2. Received: trials=1"),
    ],
)
def test_pretrain_refuses_in_one_line(ser_tf, options, message):
    assert_one_line(ser_tf("pretrain", *options), message)


@pytest.mark.parametrize("name", ["loop", "loop.csv"])
@pytest.mark.parametrize(
    "command",
    [("audit",), ("finetune", "--corpus"), ("prepare", "--out", "shards", "--corpus"), ("pretrain", "--corpus")],
)
def test_a_link_to_itself_is_refused_in_one_line(ser_tf, command, name):
    Path(name).symlink_to(name)
    assert_one_line(ser_tf(*command, name), f"{name}: expected a ")


def test_an_emotion_that_no_test_speaker_has_is_named():
    scores = {"utterances": 12, "wa": 0.5, "uar": 0.5, "macro_f1": 0.5, "recall": {"happy": 0.5, "sad": None}}
    result = {
        **{"strategy": "S3", "start": "random weights", "corpus": "table", "scheme": "complete", "fold": 4},
        **{"test": scores, "validation": scores, "best_epoch": 1, "epochs": 1},
        **{"excluded": {}, "unreadable": {}, "whole_waveform_kept": 0},
    }
    assert "12 test utterances (none of sad): WA 50.0%" in summary_of(result)


def test_evaluate_keeps_what_is_finished_and_prints_a_table(ser_tf, finetuned, tones, small, monkeypatch):
    shutil.copytree(finetuned("S1").path, "runs/S1-fold1-seed0")
    replace(small, network=replace(small.network, head_units=5)).save(Path("preset.yaml"))
    command = ("evaluate", "--corpus", tones, "--strategies", "S1", "--fold", 1, 2, "--run", "runs")
    options = ("--preset", "preset.yaml", "--network.head-units", small.network.head_units)
    answer = ser_tf(*command, *options)
    assert answer.status == 0
    assert answer.err.count("\n") == 1
    assert answer.err.startswith(f"ser-tf: left out: {tones.parent / 'broken.wav'}: expected a recording. ")
    assert "runs/S1-fold2-seed0: run 2 of 2, S1 from random weights" in answer.out
    assert "runs/S1-fold1-seed0: already finished" in answer.out  # the file, and what the option changes, took effect
    first, second = (Path(f"runs/S1-fold{fold}-seed0") for fold in (1, 2))
    assert Config.load(second / "config.yaml") == Config.load(first / "config.yaml")
    assert json.loads((second / "run.json").read_text())["identity"]["test_speakers"] == ["table:2"]

    results = [json.loads((folder / "metrics.json").read_text())["test"] for folder in (first, second)]
    was = [100 * result["wa"] for result in results]
    *_, row, sentence = answer.out.splitlines()
    strategy, folds, seeds, mean, least, most, deviation, *_ = row.split()
    assert (strategy, folds, seeds) == ("S1", "2", "1")
    # The standard deviation of two numbers is their distance divided by the square root of 2.
    expected = [np.mean(was), min(was), max(was), abs(was[0] - was[1]) / 2**0.5]
    np.testing.assert_allclose([float(cell) for cell in (mean, least, most, deviation)], expected, atol=0.051)
    assert row.endswith("  random weights")
    assert sentence.startswith("These trained models of S1 from random weights reach ")
    pooled = json.loads(Path("runs/summary-S1.json").read_text())["strategies"]["S1"]["scores"]["pooled"]
    assert pooled["wa"]["value"] == pytest.approx(np.mean(was) / 100)  # both folds test as many

    monkeypatch.setattr(finetuning, "train_fold", None)  # nothing is trained again
    again = ser_tf(*command, *options)
    assert "runs/S1-fold2-seed0: already finished" in again.out
    assert again.out.splitlines()[-2:] == [row, sentence]


def test_one_fold_has_no_deviation(table_of):
    one_fold = table_of({"S5": 0.5}, speakers=2)  # two speakers a fold
    line = _table_of_folds(summarise(one_fold, Demographics({}, {}, ()))).splitlines()[-1]
    strategy, folds, seeds, *wa, wa_deviation, _, _, _, uar_deviation = line.split()
    assert (strategy, folds, seeds) == ("S5", "1", "1")
    expected = accuracy_score(one_fold.rows["truth"], one_fold.rows["prediction"])
    assert wa == [f"{100 * expected:.1f}"] * 3
    assert wa_deviation == uar_deviation == "nan"


def test_a_run_has_a_folder_of_its_own_by_default(ser_tf, tones, monkeypatch):
    tasks = {}

    def trained(task, run, report):
        tasks[str(run.path)] = task
        raise UserError("as far as this test goes")

    monkeypatch.setattr(finetuning, "finetune", trained)
    options = ("--network.clusters", 4, "--training.batch-size=12", "--training.seed", 7, "--strategy", "S3")
    ser_tf("finetune", "--corpus", tones, "--preset", "tiny", *options)
    task = tasks["runs/table-complete-fold1-S3-tiny-seed7"]
    tiny = PRESETS["tiny"]
    assert task.config == replace(
        tiny,
        network=replace(tiny.network, clusters=4),
        training=replace(tiny.training, batch_size=12, seed=7),
    )


def test_yardsticks_are_judged_on_the_same_folds(ser_tf, tones):
    command = ("yardsticks", "--corpus", tones, "--methods", "majority", "--protocol", "random")
    answer = ser_tf(*command)
    assert answer.status == 0
    assert answer.err.startswith(f"ser-tf: left out: {tones.parent / 'broken.wav'}: expected a recording. ")
    *_, honest, leaking, premium = answer.out.splitlines()
    # Each test speaker has four tones of each of three emotions.
    assert honest.split()[:3] == ["majority", "6", "33.3"]
    assert honest.endswith("speaker-independent, complete")
    assert leaking.endswith("random split, speaker-dependent: not comparable")
    assert premium == (
        "majority: leak premium +0.0 UAR, +0.0 WA, mean over folds (random split, speaker-dependent: not comparable)"
    )
    folder = Path("runs/table-complete-yardsticks")
    assert len(list(folder.iterdir())) == 12
    again = ser_tf(*command)
    assert again.out.splitlines()[:12] == [
        f"{folder}/majority-fold{fold}{mark}: already finished"
        for mark in ("", "-random-split-speaker-dependent-not-comparable")
        for fold in range(1, 7)
    ]
    assert again.out.splitlines()[12:] == answer.out.splitlines()[1:]
    assert_one_line(ser_tf("predict", folder / "majority-fold1", tones.parent / "1-sad-0.wav"), "expected a classifier")


def test_a_yardstick_that_is_not_there_gets_one_line(ser_tf, tones):
    answer = ser_tf("yardsticks", "--corpus", tones, "--methods", "majority", "human")
    assert_one_line(answer, "human: expected crema_d, whose listeners' votes are published. Received: table")
    assert not Path("runs").exists()


def test_noise_is_measured_once_and_told(ser_tf, finetuned, tones):
    command = ("noise", "--corpus", tones, finetuned("S3").path)
    answer = ser_tf(*command)
    assert answer.status == 0
    assert answer.err.startswith(f"ser-tf: left out: {tones.parent / 'broken.wav'}: expected a recording. ")
    folder = Path("runs/table-noise")
    fold, measured, heading, *table = answer.out.splitlines()
    assert fold == "fold 1: S3-fold1-seed0"
    assert measured.startswith("S3-fold1-seed0: 12 utterances x 25 conditions, ")
    assert heading.startswith("UAR in percent with 95 % intervals from resampling speakers (1), and its loss")
    assert table[-1] == "To measure the effect of ghosts, give runs with and without them, such as S3 and S1."
    summary = json.loads((folder / "noise.json").read_text())["summary"]
    clean = json.loads(finetuned("S3").metrics.read_text())["test"]["uar"]
    assert summary["strategies"]["S3"]["uar"][0]["value"] == pytest.approx(clean)

    again = ser_tf(*command)
    assert again.out.splitlines() == [heading, *table]


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_predict_names_each_recording(ser_tf, finetuned, tones, form):
    run = finetuned("S5")
    with run.predictions.open(newline="") as file:
        expected = {row["file"]: row["prediction"] for row in csv.DictReader(file) if row["side"] == "test"}
    shutil.copytree(tones.parent, "speech", ignore=lambda _, names: [name for name in names if name not in expected])
    Path("speech/notes.txt").touch()
    answer = ser_tf("predict", run.path, "speech", tones.parent / "3-sad-0.wav", "--format", form)
    assert (answer.status, answer.err) == (0, "")
    if form == "table":
        heading, *lines = answer.out.splitlines()
        assert heading.split() == ["emotion", "prob", "speech", "happy", "sad", "angry", "file"]
        found = {line.split()[-1]: line.split()[0] for line in lines}
        assert all(sum(float(cell[:-1]) for cell in line.split()[3:6]) == pytest.approx(100, abs=0.2) for line in lines)
    else:
        rows = {
            "csv": lambda: list(csv.DictReader(io.StringIO(answer.out))),
            "json": lambda: [json.loads(line) for line in answer.out.splitlines()],
        }[form]()
        found = {row["file"]: row["emotion"] for row in rows}
        for row in rows:
            shares = row["probabilities"] if form == "json" else {name: row[name] for name in ("happy", "sad", "angry")}
            assert sum(map(float, shares.values())) == pytest.approx(1, abs=1e-5)
            assert float(row["probability"]) == pytest.approx(float(shares[row["emotion"]]))
            assert 0 < float(row["speech_seconds"]) <= 0.6
    assert len(found) == len(expected) + 1
    assert {Path(file).name: emotion for file, emotion in found.items()}.items() >= expected.items()


def test_a_bad_recording_is_named_and_counted_while_the_others_go_on(ser_tf, finetuned, tones):
    good = tones.parent / "1-sad-0.wav"
    soundfile.write("silent.wav", np.zeros(16_000), 16_000)
    Path("pointer.wav").write_text("version https://git-lfs.github.com/spec/v1")
    bad = ("silent.wav", "pointer.wav", "absent.wav")
    answer = ser_tf("predict", finetuned("S3").path, good, *bad, good, "--format", "json")
    assert answer.status == 1
    assert [json.loads(line)["file"] for line in answer.out.splitlines()] == [str(good), str(good)]
    *named, counted = answer.err.splitlines()
    assert len(named) == len(bad)
    assert all(line.startswith(f"ser-tf: {file}: ") for line, file in zip(named, bad, strict=True))
    assert counted == "ser-tf: 3 of 5 recordings could not be read; see above"


def test_an_export_predicts_what_the_run_predicts(ser_tf, finetuned, tones):
    run = finetuned("S3").path
    answer = ser_tf("export", run, "out")
    assert (answer.status, answer.err) == (0, "")
    assert re.fullmatch(r"out/1: \d+\.\d MB; intended use and limits: out/1/assets/model_card\.md\n", answer.out)
    assert Path("out/1/assets/model_card.md").read_text().startswith("# Model card: S3 on table")
    soundfile.write("silent.wav", np.zeros(16_000), 16_000)
    recordings = (tones.parent / "1-sad-0.wav", "silent.wav", tones.parent / "2-happy-1.wav")
    expected = ser_tf("predict", run, *recordings, "--format", "json")
    for exported in ("out", "out/1"):
        found = ser_tf("predict", exported, *recordings, "--format", "json")
        assert (found.status, found.err) == (expected.status, expected.err)
        for line, other in zip(found.out.splitlines(), expected.out.splitlines(), strict=True):
            row, other = json.loads(line), json.loads(other)
            assert row.pop("probabilities") == pytest.approx(other.pop("probabilities"), abs=1e-5)
            assert row.pop("probability") == pytest.approx(other.pop("probability"), abs=1e-5)
            assert row == other


@pytest.fixture
def judged(finetuned, tmp_path) -> Path:
    """A finished run with 40 validation recordings, predicted rightly above 0.705 and wrongly below."""
    run = shutil.copytree(finetuned("S3").path, tmp_path / "judged")
    rows = ["side,file,speaker,truth,prediction,happy,sad,angry"]
    for place, share in enumerate(np.linspace(0.99, 0.6, 40)):
        truth = "happy" if share > 0.705 else "sad"
        rows += [f"{side},{place}.wav,1,{truth},happy,{share:.6f},{1 - share:.6f},0" for side in ("validation", "test")]
    (run / "predictions.csv").write_text("\n".join(rows) + "\n")
    return run


def test_predict_marks_what_it_abstains_from(ser_tf, judged, tones):
    recordings = [tones.parent / f"1-{emotion}-{take}.wav" for emotion in ("happy", "sad", "angry") for take in (0, 1)]
    plain = [json.loads(line) for line in ser_tf("predict", judged, *recordings, "--format", "json").out.splitlines()]
    command = ("predict", judged, *recordings, "--risk", 0)
    # 0.99 to 0.71 are 29, too few to choose a threshold; 0.70, the 30th, is wrong: 1 of 30 are 3.3 %.
    assert_one_line(ser_tf(*command), "risk: expected at least 0.034, the lowest that this run reaches")
    answers = {form: ser_tf(*command[:-1], 0.04, "--format", form) for form in ("table", "csv", "json")}
    told = "ser-tf: abstains below a probability of 0.7000. Validation speakers (1): 75.0 % answered"
    assert all((answer.status, answer.err.startswith(told)) == (0, True) for answer in answers.values())
    rows = [json.loads(line) for line in answers["json"].out.splitlines()]
    expected = [row["probability"] < 0.7 for row in plain]
    assert [row.pop("abstained") for row in rows] == expected
    assert rows == plain
    table = list(csv.DictReader(io.StringIO(answers["csv"].out)))
    assert [row["abstained"] for row in table] == [str(one).lower() for one in expected]
    assert ["abstains" in line for line in answers["table"].out.splitlines()[1:]] == expected


def test_predict_tells_a_long_recording_over_time(ser_tf, judged, tones):
    quiet = np.zeros(8000)
    voices = [np.tile(soundfile.read(tones.parent / f"1-{emotion}-0.wav")[0], 3) for emotion in ("happy", "sad")]
    soundfile.write("long.wav", np.concatenate([quiet, voices[0], quiet, quiet, voices[1], quiet]), 16_000)
    assert ser_tf("export", judged, "out").status == 0
    told = []
    for source in (judged, Path("out")):
        answer = ser_tf("predict", source, "long.wav", "--timeline", "times", "--risk", 0.04)
        assert (answer.status, answer.err.count("\n")) == (0, 1)
        heading, *lines, counted, written = answer.out.splitlines()
        assert heading.split() == ["from", "to", "emotion", "prob"]
        assert counted == "2 utterances; too short to name: 0"
        assert written == "written to times/timeline.html, times/timeline.csv and times/timeline.json"
        assert {path.name for path in Path("times").iterdir()} == {
            f"timeline.{kind}" for kind in ("html", "csv", "json")
        }
        with Path("times/timeline.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [line.split()[2] for line in lines] == [row["emotion"] for row in rows]
        assert [line.endswith("abstains") for line in lines] == [row["abstained"] == "true" for row in rows]
        times = [float(row[name]) for row in rows for name in ("start_seconds", "end_seconds")]
        np.testing.assert_allclose(times, (0.5, 2.3, 3.3, 5.1), atol=0.25)  # the detector hangs on
        model = "out/1" if source == Path("out") else source  # the version of the export
        assert f"Emotions by {model}; " in Path("times/timeline.html").read_text()
        told.append([(row["start_seconds"], row["end_seconds"], row["emotion"], row["abstained"]) for row in rows])
    assert told[0] == told[1]


FOREIGN_NAME = os.fsdecode(b"caf\xe9.wav")
"""A name in Latin-1, as from a camera or an old zip file."""


def test_names_that_are_no_utf8_are_escaped(ser_tf, judged, tones):
    folder = Path(os.fsdecode(b"\xe9t\xe9"))
    folder.mkdir()
    shutil.copy(tones.parent / "1-happy-0.wav", folder / FOREIGN_NAME)
    (folder / os.fsdecode(b"\xff.wav")).touch()
    run = judged.rename(judged.with_name(os.fsdecode(b"r\xe9sultat")))
    shown = r"\xe9t\xe9/caf\xe9.wav"
    for form in ("table", "csv", "json"):
        answer = ser_tf("predict", run, folder, "--format", form)
        assert r"ser-tf: \xe9t\xe9/\xff.wav: expected a recording. Received: a file of zero bytes" in answer.err
        assert answer.status == 1
        assert (json.loads(answer.out)["file"] if form == "json" else answer.out).count(shown) == 1
    assert ser_tf("predict", run, folder / FOREIGN_NAME, "--timeline", folder / "times").status == 0
    assert json.loads((folder / "times/timeline.json").read_text())["file"] == r"caf\xe9.wav"
    assert_one_line(ser_tf("export", run, folder / "out"), r"\xe9t\xe9/out: expected a folder whose path is UTF-8")
    assert ser_tf("export", run, "out").status == 0


def test_predict_goes_on_past_what_it_cannot_read_and_counts_it(ser_tf, judged, tones):
    Path("mixed").mkdir()
    samples, rate_hz = soundfile.read(tones.parent / "1-happy-0.wav")
    soundfile.write("mixed/call.WAV", samples, rate_hz, subtype="GSM610")
    soundfile.write("mixed/tone.AIFF", samples, rate_hz)
    soundfile.write("mixed/tone.oga", samples, rate_hz, format="OGG", subtype="VORBIS")
    Path("mixed/memo.wma").write_bytes(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" * 20)
    os.mkfifo("mixed/pipe.wav")
    Path("mixed/notes.txt").touch()
    answer = ser_tf("predict", judged, "mixed", "--format", "csv")
    files = [row["file"] for row in csv.DictReader(io.StringIO(answer.out))]
    assert files == ["mixed/call.WAV", "mixed/tone.AIFF", "mixed/tone.oga"]
    memo, pipe, counted = answer.err.splitlines()
    assert memo.startswith("ser-tf: mixed/memo.wma: expected wav, ")
    assert pipe.startswith("ser-tf: mixed/pipe.wav: expected a recording. Received: a device or a pipe")
    assert counted.startswith("ser-tf: 2 of 5 recordings could not be read")


def test_an_export_to_litert_tells_its_files(ser_tf, finetuned):
    answer = ser_tf("export", finetuned("S3").path, "out", "--format", "litert")
    assert answer.status == 0
    files = r"emotion-float16\.tflite \d+\.\d MB, emotion\.tflite \d+\.\d MB"
    assert re.fullmatch(rf"out: {files}; intended use and limits: out/model_card\.md\n", answer.out)
    takes = "out: expected a run, or an export to SavedModel or ONNX. Received: one to LiteRT, which runs in its own"
    assert_one_line(ser_tf("predict", "out", "clip.wav"), takes)


def corpus_of(*names: str, content: bytes = b"") -> None:
    for name in names:
        path = Path("corpus", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


RAVDESS = [f"03-01-0{emotion}-01-01-01-0{actor}.wav" for emotion in (3, 4) for actor in (1, 2, 3)]
FINETUNE = ("finetune", "--corpus", "corpus", "--preset", "tiny")

BAD_INPUT = {
    "missing directory": (lambda: None, FINETUNE, "corpus: expected a directory of recordings or a CSV table"),
    "empty directory": (lambda: Path("corpus").mkdir(), FINETUNE, "corpus: expected recordings"),
    "foreign names": (lambda: corpus_of("a.wav"), FINETUNE, "expected the file names of a known corpus"),
    "two corpora": (
        lambda: corpus_of(RAVDESS[0], "1001_DFA_ANG_XX.wav"),
        FINETUNE,
        "expected files of one corpus. Received: files of crema_d and ravdess",
    ),
    "audit of nothing": (lambda: None, ("audit", "corpus"), "corpus: expected a directory of recordings"),
    "unknown emotion code": (
        lambda: corpus_of(*RAVDESS, "03-01-09-01-01-01-01.wav"),
        FINETUNE,
        "corpus/03-01-09-01-01-01-01.wav: ",
    ),
    "one emotion": (lambda: corpus_of(*RAVDESS[:3]), FINETUNE, "expected at least two emotions"),
    "one speaker": (lambda: corpus_of(*RAVDESS[::3]), FINETUNE, "expected at least two speakers"),
    "unknown scheme": (lambda: corpus_of(*RAVDESS), (*FINETUNE, "--scheme", "mine"), "no scheme 'mine'"),
    "overlapping speakers": (
        lambda: (
            corpus_of(*RAVDESS),
            Path("folds.yaml").write_text("ravdess: {complete: {folds: {1: {train: 1-2, validation: 2, test: 3}}}}"),
        ),
        (*FINETUNE, "--scheme-file", "folds.yaml"),
        "fold 1: expected each speaker once. Received: ravdess:02 in train and in validation",
    ),
    "unknown preset": (lambda: None, (*FINETUNE, "--preset", "huge"), "preset: expected one of paper, compact, tiny"),
    "absent preset file": (lambda: None, ("describe", "--preset", "my.yaml"), "my.yaml: expected a configuration"),
    "preset without a name": (lambda: None, ("describe", "--preset"), "preset: expected one of paper"),
    "unknown parameter in a preset": (
        lambda: Path("my.yaml").write_text("network: {layers: 3}"),
        ("describe", "--preset", "my.yaml"),
        "unknown parameter 'layers'",
    ),
    "predict without recordings": (
        lambda: None,
        ("predict", "--model", "run"),
        "recordings: expected at least one file or folder",
    ),
    "timeline of two recordings": (
        lambda: None,
        ("predict", "--model", "run", "a.wav", "b.wav", "--timeline", "out"),
        "timeline: expected one recording. Received: 2",
    ),
    "timeline in another form": (
        lambda: None,
        ("predict", "--model", "run", "a.wav", "--timeline", "out", "--format", "csv"),
        "timeline: expected no --format, since the folder gets CSV and JSON. Received: csv",
    ),
    "folder without recordings": (
        lambda: Path("corpus").mkdir(),
        ("predict", "run", "corpus"),
        ".webm, .mka, .mkv); there are none",
    ),
    "a parameter of the other schedule": (
        lambda: corpus_of(*RAVDESS),
        ("finetune", "--corpus", "corpus", "--training.maximum-epochs", "3"),
        "--training.maximum-epochs: has no effect with the schedule cosine; leave it out, or add",
    ),
    "a parameter of the schedule before": (
        lambda: corpus_of(*RAVDESS),
        ("pretrain", "--corpus", "corpus", "--training.schedule", "step", "--training.steps=3"),
        "--training.steps: has no effect with the schedule step; leave it out, or add --training.schedule cosine",
    ),
    "missing run": (
        lambda: None,
        ("predict", "--model", "run", "a.wav"),
        "run: expected the folder of a run; there is none, nor a packaged model of this name: none is packaged",
    ),
    "no run": (
        lambda: Path("run").mkdir(),
        ("predict", "--model", "run", "a.wav"),
        "run/run.json: expected a readable JSON file",
    ),
    "no packaged model": (
        lambda: None,
        ("predict", "a.wav"),
        "model: expected one, since this copy of ser_tf has no packaged model yet; give the folder of a run",
    ),
    "no packaged models to list": (
        lambda: None,
        ("models",),
        "models: expected a packaged model; this copy of ser_tf has none yet: make model",
    ),
    "a name that is no file's": (
        lambda: None,
        ("pack", "run", "--fold-runs", "run", "--name", "a/b"),
        "name: expected letters, digits and underscores. Received: a/b",
    ),
    "noise without runs": (
        lambda: corpus_of(*RAVDESS),
        ("noise", "--corpus", "corpus"),
        "runs: expected at least one run folder; give those that ser-tf evaluate wrote",
    ),
    "noise in an absent run": (
        lambda: corpus_of(*RAVDESS),
        ("noise", "--corpus", "corpus", "run"),
        "run: expected the folder of a run; there is none",
    ),
    "export of a missing run": (
        lambda: None,
        ("export", "run", "out"),
        "run: expected the folder of a run; there is none",
    ),
    "an int8 network elsewhere than in LiteRT": (
        lambda: None,
        ("export", "run", "out", "--format", "onnx", "--calibrate-on", "corpus"),
        "calibrate-on: expected --format litert, which has an int8 network. Received: --format onnx",
    ),
    "weights of something else": (
        lambda: Path("theirs.h5").write_text("<html>"),
        ("import-vggvox", "theirs.h5", "ours.weights.h5"),
        "theirs.h5: expected a file of weights in HDF5",
    ),
    "report into a missing folder": (
        lambda: corpus_of(*RAVDESS),
        ("audit", "corpus", "--json", "absent/report.json"),
        "absent/report.json: No such file or directory; choose another place",
    ),
    "synthesise into a full folder": (
        lambda: corpus_of("a.txt"),
        ("synthesise", "corpus"),
        "corpus: expected a new or empty directory",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_line(ser_tf, case):
    prepare, command, message = BAD_INPUT[case]
    prepare()
    assert_one_line(ser_tf(*command), message)


BAD_TRAINING = {
    "unknown strategy": (("--strategy", "S9"), "strategy: expected one of S1, S2, S3, S4, S5. Received: S9"),
    "S2 from nothing": (("--strategy", "S2"), "strategy S2 without pre-trained weights is S1"),
    "unknown fold": (("--fold", 7), "fold: expected 1 to 6 in scheme 'complete'. Received: 7"),
    "absent weights": (("--weights", "w.h5"), "w.h5: expected a file of weights (.weights.h5); there is none"),
    "no batch": (("--training.batch-size", 0), "batch_size: expected at least 1. Received: batch_size=0"),
    "too large a batch": (
        ("--training.batch-size", 49),
        "batch_size: expected at most the number of training utterances",
    ),
}


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("evaluate --only 1 2", "evaluate --fold 1 2"),
        ("sweep --folds 1 5 9", "sweep --fold 1 5 9"),
        ("evaluate --only=3 --folds=mine.yaml", "evaluate --fold=3 --scheme-file=mine.yaml"),
        ("finetune --folds mine.yaml --fold 2", "finetune --scheme-file mine.yaml --fold 2"),
    ],
)
def test_older_spellings_of_folds_still_work(older, newer):
    assert door._parse([*older.split(), "--corpus", "x"]) == door._parse([*newer.split(), "--corpus", "x"])


@pytest.mark.parametrize("case", BAD_TRAINING)
@pytest.mark.parametrize("command", ["finetune", "evaluate"])
def test_what_cannot_be_trained_gets_one_line_before_anything_is(ser_tf, tones, command, case):
    options, message = BAD_TRAINING[case]
    if command == "evaluate":  # a good one first: the bad one must be found before it is trained
        options = {"--strategy": ("--strategies", "S5", options[1]), "--fold": ("--fold", 1, 7)}.get(
            options[0], options
        )
    answer = ser_tf(command, "--corpus", tones, "--preset", "tiny", *options)
    broken = f"{tones.parent / BROKEN}: expected a recording. Received: a file of zero bytes; fetch it again"
    error = answer.err.removeprefix(f"ser-tf: left out: {broken}\n")  # that much is said when recordings are read
    assert_one_line(Answer(answer.status, answer.out, error), message)
    assert not Path("runs").exists()


def test_weights_of_another_network_get_one_line(ser_tf, tones, finetuned):
    weights = finetuned("S3").weights
    answer = ser_tf("finetune", "--corpus", tones, "--preset", "compact", "--weights", weights, "--strategy", "S3")
    assert_one_line(answer, f"{weights}: these weights were trained with network.width 0.125, and this run has 0.25")


def test_a_corpus_of_pointers_gets_one_line_with_the_remedy(ser_tf):
    corpus_of(*RAVDESS, content=b"version https://git-lfs.github.com/spec/v1\n")
    Path("folds.yaml").write_text("ravdess: {complete: {folds: {1: {train: 1, validation: 2, test: 3}}}}")
    answer = ser_tf(*FINETUNE, "--scheme-file", "folds.yaml", "--strategy", "S3")
    message = (
        f"expected readable recordings. Received: 6 that are not, such as corpus/{RAVDESS[0]}: expected a recording. "
    )
    assert_one_line(answer, message + "Received: a git-LFS pointer; fetch the audio with `git lfs pull`")


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/config.yaml")


def test_a_disk_that_is_full_gets_one_line(ser_tf, tones, monkeypatch, tmp_path):
    command = ("finetune", "--corpus", tones, "--preset", "tiny", "--run", "run")
    monkeypatch.setenv("SER_TF_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "NamedTemporaryFile", full_disk)
        message = "cache: the speech cache cannot be written (No space left on device); free some space or choose"
        assert_one_line(ser_tf(*command), message)
    monkeypatch.setattr(Config, "save", full_disk)
    answer = ser_tf(*command)
    assert answer.status == 1
    assert answer.err.splitlines()[1:] == [
        "ser-tf: run/config.yaml: No space left on device; make room or choose another place"
    ]


def test_a_librarys_own_error_keeps_its_traceback(ser_tf, monkeypatch):
    def fail(arguments):
        raise OSError("not the operating system's")

    monkeypatch.setattr(door, "_parse", fail)
    with pytest.raises(OSError, match="not the operating system's"):
        ser_tf("audit", "corpus")


def test_ctrl_c_gets_one_line_and_the_shells_status(ser_tf, monkeypatch):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "_parse", interrupt)
    assert_one_line(ser_tf("audit", "corpus"), "interrupted\n", 130)


def test_a_warning_is_one_line_and_a_librarys_is_none(ser_tf, monkeypatch):
    def warn(arguments):
        warnings.warn_explicit("the embeddings collapse", CollapseWarning, monitor.__file__, 1)
        warnings.warn_explicit("for developers", UserWarning, np.__file__, 1)
        raise UserError("enough")

    monkeypatch.setattr(door, "_parse", warn)
    assert ser_tf("audit", "corpus").err == "ser-tf: the embeddings collapse\nser-tf: enough\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            (("describe", "--seconds", value), "seconds: expected 0.1 to 600 s")
            for value in (0, -1, "nan", "inf", "1e300")
        ),
        (("describe", "--network.width", "1e9"), "width: expected at most 2. Received: width=1000000000.0"),
        (("describe", "--network.head-units", 0), "head_units: expected at least 1. Received: head_units=0"),
        (("describe", "--training.seed", 2**32), f"seed: expected at most {2**32 - 1}. Received: seed={2**32}"),
        (
            ("pretrain", "--corpus", "nowhere", "--pretraining.held-out", "inf"),
            "held_out: expected at most 1000000. Received: held_out=inf",
        ),
    ],
)
def test_an_argument_out_of_bounds_gets_one_line(ser_tf, arguments, message):
    assert_one_line(ser_tf(*arguments), message)


@pytest.mark.parametrize("command", ["evaluate", "sweep"])
def test_a_seed_of_more_than_32_bits_gets_one_line(ser_tf, tones, command):
    over = ("--over", "loss.alpha=0.1") if command == "sweep" else ()
    answer = ser_tf(command, "--corpus", tones, "--preset", "tiny", "--seeds", 2**32, *over)
    error = "\n".join(line for line in answer.err.splitlines() if "left out" not in line) + "\n"
    assert_one_line(Answer(answer.status, answer.out, error), f"seed: expected at most {2**32 - 1}")
    assert not Path("runs").exists()


def test_a_backend_left_in_the_shell_gets_one_line(ser_tf, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    message = "KERAS_BACKEND: expected tensorflow or jax. Received: torch; unset this environment variable"
    assert_one_line(ser_tf("describe"), message)
    with pytest.raises(UserError, match=message):
        getattr(importlib.import_module("ser_tf"), "Recogniser")  # noqa: B009


def test_what_is_too_large_for_the_memory_gets_one_line(ser_tf, monkeypatch):
    def fill(arguments):
        raise MemoryError

    monkeypatch.setattr(door, "_parse", fill)
    assert_one_line(ser_tf("audit", "corpus"), "out of memory; give fewer recordings at a time")


def test_a_name_cannot_break_the_line_of_a_missing_file(ser_tf):
    corpus_of(*RAVDESS)
    answer = ser_tf("audit", "corpus", "--json", "two\nlines/report.json")
    assert_one_line(answer, "two\\nlines/report.json: No such file or directory")
