"""The steps of the Dockerfile, as far as they run without Docker: an image was not built here."""

import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from benchmarks.server import started

pytest.importorskip("uvicorn")

CHECKOUT = Path(__file__).parents[1]
STEPS = [
    line.split(maxsplit=1)
    for line in (CHECKOUT / "Dockerfile").read_text().splitlines()
    if line and not line.startswith("#")
]


def arguments(step: str) -> list[str]:
    return [rest for name, rest in STEPS if name == step]


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """What COPY and `pip install` leave, but for the dependencies."""
    build, installed = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("installed")
    for step in arguments("COPY"):
        *sources, target = step.split()
        for source in sources:
            path = CHECKOUT / source
            if path.is_dir():
                shutil.copytree(path, build / target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, build / target)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--target", installed, "."], check=True, cwd=build)
    return installed


def test_what_docker_may_see_is_what_is_copied():
    seen = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert seen == {source for step in arguments("COPY") for source in step.split()[:-1]}


def test_the_extras_are_there():
    (install,) = [step for step in arguments("RUN") if step.startswith("pip install")]
    (extras,) = re.findall(r"\.\[(.*)\]", install)
    parser = ConfigParser()
    parser.read(CHECKOUT / "setup.cfg")
    assert set(extras.split(",")) <= parser["options.extras_require"].keys()


def test_the_entry_point_answers(image, tmp_path):
    program, *given = json.loads(arguments("ENTRYPOINT")[0])
    environment = os.environ | {"PYTHONPATH": str(image)}
    command = [str(image / "bin" / program), *given, "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (ended.returncode, "--names" in ended.stdout) == (0, True)


def test_the_health_check_asks_the_server_as_it_listens_there(image, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(image))
    (check,) = arguments("HEALTHCHECK")
    python, *code = json.loads(check[check.index("[") :])
    assert python == "python"
    _, *given = json.loads(arguments("ENTRYPOINT")[0])
    with started(*given[1:], program=(str(Path(__file__).with_name("stand_in.py")),)) as (url, process):
        port = url.rpartition(":")[2]
        command = [sys.executable, *code]
        assert "8501" in command[-1]
        command[-1] = command[-1].replace("8501", port)
        assert subprocess.run(command).returncode == 0
        process.terminate()
        process.wait()
        assert subprocess.run(command, capture_output=True).returncode != 0
