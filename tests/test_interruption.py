"""Ctrl-C in a process of its own, at moments that a test chooses."""

import signal
import subprocess
import sys

import pytest

from ser_tf.cli import door
from ser_tf.cli.corpora import Audit
from ser_tf.cli.door import GOES_ON
from ser_tf.cli.preparation import Prepare
from ser_tf.cli.training import Finetune


def ser_tf(before: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a command in a process that a few lines have prepared."""
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # as in a terminal
        "def press(): os.kill(os.getpid(), signal.SIGINT)\n"
        f"{before}\n"
        "from ser_tf.__main__ import main\n"
        "main()"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


PRESSED = {
    "while libraries are imported": """
class Pressing:
    def find_spec(self, name, path=None, target=None):
        if name == "tyro":
            press()
sys.meta_path.insert(0, Pressing())""",
    "and a library raises a different error": """
import ser_tf.cli.door
def run(self):
    try:
        press()
    except KeyboardInterrupt:
        raise RuntimeError("while building the network")
ser_tf.cli.door.Audit.run = run""",
    "and a library swallows it": """
import ser_tf.cli.door
def run(self):
    try:
        press()
    except KeyboardInterrupt:
        pass
ser_tf.cli.door.Audit.run = run""",
    "and it becomes bad input": """
import ser_tf.cli.door
from ser_tf.errors import UserError
def run(self):
    try:
        press()
    except KeyboardInterrupt:
        raise UserError("the recording is cut")
ser_tf.cli.door.Audit.run = run""",
    "while libsndfile reads": """
import io, time
import ser_tf.cli.door, soundfile
class Pressing(io.BytesIO):
    def readinto(self, buffer):
        press()
        return super().readinto(buffer)
wav = Pressing()
soundfile.write(wav, [0.1] * 16000, 16000, format="WAV")
wav.seek(0)
def run(self):
    assert len(soundfile.read(wav)[0]) == 16000  # undisturbed
    time.sleep(60)
ser_tf.cli.door.Audit.run = run""",
    "in the command": """
import ser_tf.cli.door
ser_tf.cli.door.Audit.run = lambda self: press()""",
}


@pytest.mark.parametrize("moment", PRESSED)
def test_ctrl_c_ends_in_one_line_at_any_moment(moment):
    process = ser_tf(PRESSED[moment], "audit", "corpus")
    assert (process.returncode, process.stderr) == (130, "ser-tf: interrupted\n")


def test_without_ctrl_c_an_error_of_ours_keeps_its_traceback():
    process = ser_tf("import ser_tf.cli.door\nser_tf.cli.door.Audit.run = lambda self: 1 / 0", "audit", "corpus")
    assert process.returncode == 1
    assert "ZeroDivisionError" in process.stderr


def test_what_the_shell_has_turned_off_stays_off():
    before = "import ser_tf.cli.door\nser_tf.cli.door.Audit.run = lambda self: press()\n"
    process = ser_tf(before + "signal.signal(signal.SIGINT, signal.SIG_IGN)", "audit", "corpus")
    assert (process.returncode, process.stderr) == (0, "")


def test_predict_stops_after_a_recording_whose_decoder_swallowed_it(monkeypatch):
    from ser_tf import interruption
    from ser_tf.cli.recognise import _predictions

    heard = []

    def recogniser(file):
        heard.append(file)
        monkeypatch.setattr(interruption, "heard", lambda: True)

    with pytest.raises(KeyboardInterrupt):
        list(_predictions(recogniser, ["a", "b", "c"], []))
    assert heard == ["a"]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (Audit, "ser-tf: interrupted\n"),
        (Finetune, "ser-tf: interrupted; started again, it goes on from its last finished epoch\n"),
        (Prepare, "ser-tf: interrupted; started again, it goes on from its finished shards\n"),
    ],
)
def test_the_line_is_about_the_command(command, line, monkeypatch, capsys):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupt)
    monkeypatch.setattr(door, "_parse", lambda arguments: object.__new__(command))
    with pytest.raises(SystemExit) as end:
        door.main()
    assert end.value.code == 130
    assert capsys.readouterr().err == line


def test_every_command_that_goes_on_is_one():
    assert all(hasattr(command, "run") for command in GOES_ON)
    assert signal.getsignal(signal.SIGINT) is not None
