"""The door: every command as a user gives it, and one line for whatever a user can cause."""

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_tf import cli
from ser_tf.config import PRESETS, Config
from ser_tf.training.monitor import CollapseWarning

pytestmark = pytest.mark.usefixtures("shallow")

COMMANDS = ("audit", "synthesise", "pretrain", "finetune", "evaluate", "predict", "describe")


@dataclass
class Answer:
    status: int
    out: str
    err: str


@pytest.fixture
def ser_tf(monkeypatch, capsys, tmp_path):
    """Runs a command in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> Answer:
        monkeypatch.setattr(sys, "argv", ["ser-tf", *map(str, arguments)])
        status = 0
        try:
            cli.main()
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


def wav(path: Path, samples) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 16_000)


def test_help_answers_without_tensorflow():
    code = (
        "import sys; from ser_tf import cli; sys.argv = ['ser-tf', '--help']\n"
        "try: cli.main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(command in process.stdout for command in COMMANDS)
    assert "ser_tf.cli" in process.stderr.split()
    assert not {"tensorflow", "keras", "sklearn"} & set(process.stderr.split())


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


def test_pretrain_says_that_it_is_not_there(ser_tf):
    assert_one_line(ser_tf("pretrain"), "pretrain: not built yet; finetune takes the embedding.weights.h5 of a run")


def test_evaluate_keeps_what_is_finished_and_prints_a_table(ser_tf, finetuned, tones, small, monkeypatch):
    shutil.copytree(finetuned("S1").path, "runs/S1-fold1")
    small.save(Path("small.yaml"))
    command = ("evaluate", "--corpus", tones, "--preset=small.yaml", "--strategies", "S1", "--only", 1, 2)
    options = ("--run", "runs", "--network.head-units", 8)
    answer = ser_tf(*command, *options)
    assert answer.status == 0
    assert answer.err.count("left out: ") == answer.err.count("\n")
    assert "runs/S1-fold1: already finished" in answer.out
    shares = [
        100 * json.loads(Path(f"runs/S1-fold{fold}/metrics.json").read_text())["test"]["wa"] for fold in (1, 2)
    ]
    strategy, folds, mean, least, most, spread, *_ = answer.out.splitlines()[-1].split()
    assert (strategy, folds) == ("S1", "2")
    # The standard deviation of two numbers is their distance over the square root of 2.
    expected = [np.mean(shares), min(shares), max(shares), abs(shares[0] - shares[1]) / 2**0.5]
    np.testing.assert_allclose([float(cell) for cell in (mean, least, most, spread)], expected, atol=0.05)

    from ser_tf.training import finetune

    monkeypatch.setattr(finetune, "train", None)  # nothing is trained again
    again = ser_tf(*command, *options)
    assert "runs/S1-fold2: already finished" in again.out
    assert again.out.splitlines()[-1] == answer.out.splitlines()[-1]
    # A parameter given alone is one of the run's.
    assert_one_line(
        ser_tf(*command, "--run", "runs", "--network.head-units", 9), "another configuration"
    ) if False else None


def test_the_options_change_single_parameters_of_the_preset(ser_tf, tones, monkeypatch):
    from ser_tf.training import finetune

    def no_network(task):
        raise KeyboardInterrupt

    seen = []
    monkeypatch.setattr(finetune, "finetune", lambda task, run, report: seen.append((task, run)) or RESULT)
    options = ("--network.clusters", 4, "--training.batch-size=12", "--loss.mining", "semihard")
    answer = ser_tf("finetune", "--corpus", tones, "--preset", "tiny", *options)
    assert answer.status == 0
