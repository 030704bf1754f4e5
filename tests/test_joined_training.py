"""Training and testing on several corpora at once, as a user does it."""

import csv
import json
import shlex
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_tf.cli import door
from ser_tf.corpora.corpus import EMOTIONS, Corpus, Utterance
from ser_tf.corpora.folds import load_scheme
from ser_tf.corpora.joined import open_corpora
from ser_tf.corpora.known import crema_d, ravdess
from ser_tf.corpora.opening import open_corpus
from ser_tf.report.compose import recordings_of
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.weights import read_provenance
from ser_tf.serving.model_card import model_card

pytestmark = pytest.mark.usefixtures("shallow")

PITCHES_HZ = {"angry": 220.0, "sad": 110.0, "happy": 330.0}
EMOVO = dict(zip(PITCHES_HZ, ("rab", "tri", "gio"), strict=True))
SAVEE = dict(zip(PITCHES_HZ, ("a", "sa", "h"), strict=True))


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Path:
    """The folders emovo and savee: tones whose pitch is the emotion, 4 per emotion of 6 and 4 speakers."""
    root = tmp_path_factory.mktemp("corpora")
    generator = np.random.default_rng(0)
    for emotion, take in product(PITCHES_HZ, range(1, 5)):
        names = [f"emovo/{EMOVO[emotion]}-{who}-n{take}" for who in ("f1", "f2", "f3", "m1", "m2", "m3")]
        names += [f"savee/{who}/{SAVEE[emotion]}{take:02d}" for who in ("DC", "JE", "JK", "KL")]
        for name in names:
            path = root / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            phases = 2 * np.pi * PITCHES_HZ[emotion] * np.arange(9600) / 16_000
            harmonics = [np.sin(number * phases + generator.uniform(0, 6)) / number for number in range(1, 8)]
            soundfile.write(path, 0.1 * np.sum(harmonics, axis=0) + 0.02 * generator.normal(size=9600), 16_000)
    return root


@pytest.fixture
def ser_tf(small, tmp_path, monkeypatch, capsys):
    """Run a command; returns its output, or the error in its place."""
    monkeypatch.chdir(tmp_path)
    small.save(Path("small.yaml"))

    def run(*arguments: object) -> str:
        options = () if "--preset" in arguments else ("--preset", "small.yaml", "--training.maximum-epochs", 1)
        monkeypatch.setattr(sys, "argv", [*map(str, ("ser-tf", *arguments, *options))])
        try:
            door.main()
        except SystemExit as end:
            return str(end.code)
        return capsys.readouterr().out

    return run


def test_evaluate_on_two_corpora(ser_tf, corpora):
    roots = (corpora / "savee", corpora / "emovo")
    command = ("evaluate", "--corpus", *roots, "--strategies", "S1", "--fold", 1, 2, "--emotions", "angry", "sad")
    out = ser_tf(*command)
    assert out.startswith("left out: 40 happy\n"), "4 takes of 10 speakers"
    folder = Path("runs/emovo+savee-sad-angry-complete-small")
    # EMOVO's 6 folds are joined to SAVEE's 4, so fold 1 tests the first and fifth actor of EMOVO.
    run = RunFolder(folder / "S1-fold1-seed0")
    identity = json.loads(run.identity.read_text())["identity"]
    assert identity["corpus"] == "emovo+savee"
    assert identity["test_speakers"] == ["emovo:f1", "emovo:m2", "savee:DC"]
    assert identity["polarities"] == {"sad": "negative", "angry": "negative"}
    assert identity["left_out_emotions"] == {"happy": 40}
    assert {name: (part["speakers"], part["utterances"]) for name, part in identity["corpora"].items()} == {
        "emovo": (6, 48),
        "savee": (4, 32),
    }
    metrics = json.loads(run.metrics.read_text())
    assert metrics["corpora"] == identity["corpora"]
    assert (metrics["folds"], metrics["test"]["utterances"]) == (4, 3 * 2 * 4)
    rows = list(csv.DictReader(run.predictions.open()))
    files = {row["file"] for row in rows if row["side"] == "test"}
    assert {"emovo/rab-f1-n1.wav", "savee/DC/a01.wav"} <= files
    assert {*read_provenance(run.weights)["speakers"]} == {*identity["train_speakers"]}
    card = model_card(run)
    assert "research only, on registration with the publisher" in card
    assert "EMOVO (Costantini et al. 2014)" in card
    summary = json.loads((folder / "summary-S1.json").read_text())["strategies"]["S1"]
    assert {*summary["groups"]["sex"]} == {"female", "male"}

    parts = {name: open_corpus(corpora / name) for name in ("emovo", "savee")}
    assert recordings_of("emovo+savee", parts) == open_corpora(roots)
    assert recordings_of("emovo", parts) is parts["emovo"]
    assert recordings_of("emovo+tess", parts) is None

    again = ser_tf("evaluate", "--corpus", *roots[::-1], *command[4:])
    assert f"{run.path}: already finished" in again, "the order of the corpora does not matter"


def test_finetune_names_its_run_after_the_corpora(ser_tf, corpora):
    options = ("--emotions", *PITCHES_HZ, "--strategy", "S5", "--fold", 4)
    out = ser_tf("finetune", "--corpus", corpora / "savee", corpora / "emovo", *options)
    folder = Path("runs/emovo+savee-complete-fold4-S5-small-seed0")
    assert out.startswith(f"{folder}: emovo+savee, complete fold 4, S5 from random weights\n")
    result = json.loads((folder / "metrics.json").read_text())
    assert (result["emotions"], "left_out_emotions" in result) == (["happy", "sad", "angry"], False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--emotions", "angry", "joyful"), "emotions: expected some of angry, happy, sad. Received: joyful"),
        (("--fold", 5), "fold: expected 1 to 4 in scheme 'complete'. Received: 5"),
        (("--corpus", "x"), "--corpus: expected all values after one --corpus. Received: --corpus 2 times"),
        (("--scheme", "published"), "folds.yaml: no scheme 'published' for corpus emovo; choose one of: complete"),
        (
            (),
            "{root}: fold 1: expected training speakers with utterances of every emotion. Received: emovo:f3, "
            "emovo:m1, savee:JK and 1 more without neutral, fearful, disgust, surprised; choose other folds, write "
            "your own (--scheme-file) with other speakers on this side, or leave the emotion out (--emotions)",
        ),
    ],
)
def test_bad_input_gets_one_line(ser_tf, corpora, options, message):
    answer = ser_tf("finetune", "--corpus", corpora / "savee", corpora / "emovo", *options)
    assert answer == f"ser-tf: {message.format(root=corpora)}"
    assert not Path("runs").exists()


def test_the_research_model_knows_all_eight_emotions(ser_tf):
    # One actor of each fold, as few as `folds.yaml` allows; all emotions of RAVDESS, and the six of CREMA-D.
    generator = np.random.default_rng(0)
    for kind in (ravdess.CORPUS, crema_d.CORPUS):
        everybody = {parsed[0] for parsed in map(kind.parse, kind.published_names())}
        utterances = tuple(Utterance(speaker, Path(speaker), speaker, "sad") for speaker in everybody)
        scheme = load_scheme("complete", Corpus(kind.name, Path(), utterances, ("sad",), ("negative",), ()))
        speakers = {fold.test[0] for fold in scheme.folds}
        labels = {name: kind.parse(name) for name in sorted(kind.published_names())}
        chosen = {label: name for name, label in labels.items() if label[0] in speakers}
        assert len(chosen) == 10 * len(kind.emotions)
        for name in chosen.values():
            path = Path(kind.written, f"{name}.wav")
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, 0.1 * generator.normal(size=9600), 16_000)
    folders = ("CREMA_D=CREMA-D", "RAVDESS=RAVDESS", "PRESET=small.yaml", "OPTIONS=--training.maximum-epochs 1")
    dry_run = ["make", "--dry-run", "--directory", Path(__file__).parents[1], "research-model", *folders]
    dry = subprocess.run(dry_run, capture_output=True, text=True, check=True)
    (line,) = [line for line in dry.stdout.replace("\\\n", "").splitlines() if " finetune " in line]
    ser_tf(*shlex.split(line)[1:])
    result = json.loads(Path("runs/research-model/metrics.json").read_text())
    assert (result["corpus"], result["strategy"], result["emotions"]) == ("crema_d+ravdess", "S1", list(EMOTIONS))
    assert result["corpora"]["ravdess"]["emotions"]["calm"] == result["corpora"]["crema_d"]["emotions"]["happy"] == 10


def test_a_recording_in_two_corpora_is_refused(ser_tf, corpora):
    shutil.copytree(corpora, "mixed")
    shutil.copy(corpora / "emovo" / "rab-f1-n1.wav", "mixed/savee/KL/a01.wav")  # f1 tests in fold 1, KL trains
    error = ser_tf("finetune", "--corpus", "mixed/savee", "mixed/emovo", "--emotions", "angry", "sad")
    assert error.startswith("ser-tf: ")
    assert "fold 1: expected each recording on one side. Received: " in error
    assert "KL/a01.wav of savee:KL (training)" in error
    assert "emovo/rab-f1-n1.wav of emovo:f1 (test), the same recording; correct the names, or remove one" in error
