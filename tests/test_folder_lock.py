import subprocess
import sys

import pytest

from ser_tf.config import Config
from ser_tf.errors import UserError
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.lock import LOCK, alone_in

HOLD = "import sys; from pathlib import Path; from ser_tf.runs.lock import alone_in\n"
HOLD += "with alone_in(Path(sys.argv[1])): print('held', flush=True); input()"


def test_another_process_is_refused_until_the_first_one_dies(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        refused = pytest.raises(UserError, match=rf"^{tmp_path}: another ser-tf command is at work in it; wait for it")
        with refused, alone_in(tmp_path):
            pytest.fail("two at once")
        other.kill()
    with alone_in(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_the_lock_that_a_killed_process_leaves_hinders_nobody(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK).touch()
    run = RunFolder(folder)
    with run.alone():
        run.begin({}, Config())
    assert sorted(file.name for file in folder.iterdir()) == ["config.yaml", "run.json"]


def test_an_error_lets_go(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), alone_in(tmp_path):
            raise KeyboardInterrupt
