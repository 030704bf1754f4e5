import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ser_tf.config import Config, TrainingConfig
from ser_tf.documents import read_json
from ser_tf.errors import UserError
from ser_tf.runs.files import write_json, write_text
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.provenance import environment

IDENTITY = {"strategy": "S5", "fold": 1, "train_speakers": ["ravdess:01"], "weights": None}


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "mine")


@pytest.fixture
def begun(run) -> RunFolder:
    run.begin(IDENTITY, Config())
    return run


def test_a_new_run_says_what_it_is(begun):
    assert begun.read_identity() == IDENTITY
    assert Config.load(begun.config) == Config()
    assert not begun.finished
    made_with = json.loads(begun.identity.read_text())["made_with"]
    assert made_with == environment()
    assert made_with["packages"].keys() >= {"tensorflow", "keras", "scikit-learn"}


def test_text_that_is_no_utf8_is_written_with_its_bytes_escaped(tmp_path):
    write_text(tmp_path / "log", "é " + os.fsdecode(b"\xe9"))
    assert (tmp_path / "log").read_text(encoding="utf-8") == r"é \xe9"


def test_an_empty_folder_is_taken(run):
    run.path.mkdir(parents=True)
    run.begin(IDENTITY, Config())
    assert run.read_identity() == IDENTITY


def test_the_same_run_is_found_again_and_left_as_it_is(begun):
    before = {file.name: file.read_bytes() for file in begun.path.iterdir()}
    RunFolder(begun.path).begin(dict(IDENTITY), Config())
    assert {file.name: file.read_bytes() for file in begun.path.iterdir()} == before


@pytest.mark.parametrize(
    ("identity", "config", "changed"),
    [
        (IDENTITY | {"fold": 2}, Config(), "fold"),
        (IDENTITY | {"fold": 2, "strategy": "S4"}, Config(), "strategy, fold"),
        (IDENTITY | {"weights": {"sha256": "0123456789abcdef"}}, Config(), "weights"),
        (IDENTITY | {"scheme": "complete"}, Config(), "scheme"),
        (IDENTITY, Config(training=TrainingConfig(seed=1)), "configuration"),
    ],
)
def test_a_different_run_is_refused_and_the_change_is_named(begun, identity, config, changed):
    message = f"{begun.path}: holds a run with another {changed}; choose another --run or remove the folder"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        begun.begin(identity, config)
    assert begun.read_identity() == IDENTITY


def test_a_folder_or_file_of_something_else_is_refused(run):
    run.path.mkdir(parents=True)
    photo = run.path / "photo.jpg"
    photo.write_bytes(b"a photo")
    for foreign in (run, RunFolder(photo)):
        with pytest.raises(UserError, match=f"^{foreign.path}: expected a run folder or an empty one; choose another"):
            foreign.begin(IDENTITY, Config())
    assert photo.read_bytes() == b"a photo"
    assert list(run.path.iterdir()) == [photo]


def test_nobody_else_works_in_the_folder_meanwhile(begun):
    refused = pytest.raises(UserError, match=f"^{begun.path}: another ser-tf command is at work in it")
    with begun.alone(), refused, RunFolder(begun.path).alone():
        pytest.fail("two at once")


@pytest.mark.parametrize("begins", [True, False])
def test_a_folder_that_was_refused_is_removed_and_a_begun_one_stays(run, begins):
    with pytest.raises(UserError, match="what comes later"), run.alone():
        if begins:
            run.begin(IDENTITY, Config())
        raise UserError("what comes later")
    assert run.path.exists() == begins


def test_a_file_in_its_place_is_left_for_begin_to_refuse(run):
    run.path.parent.mkdir()
    run.path.write_bytes(b"a photo")
    with pytest.raises(UserError, match="expected a run folder or an empty one"), run.alone():
        run.begin(IDENTITY, Config())
    assert run.path.read_bytes() == b"a photo"


@pytest.mark.parametrize("killed_at", ["configuration", "identity"])
def test_a_run_that_was_killed_while_it_began_begins_again(run, killed_at, monkeypatch):
    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        if killed_at == "configuration":
            run.path.mkdir(parents=True)
            run.config.write_text("audio:\n  back")
        else:
            context.setattr(Path, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                run.begin(IDENTITY, Config())
    assert not run.identity.is_file()
    changed = replace(Config(), training=TrainingConfig(seed=1))
    run.begin(IDENTITY, changed)
    assert run.read_identity() == IDENTITY
    assert Config.load(run.config) == changed


def test_a_finished_run_is_accepted(begun):
    write_json(begun.metrics, {"test": {}})
    assert begun.finished
    begun.require_finished()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "{path}: expected the folder of a run; there is none"),
        ({}, "{path}/run.json: expected a readable JSON file; give the folder of a run made by ser-tf finetune"),
        (
            {"run.json": '{"identi'},
            "{path}/run.json: expected a readable JSON file; give the folder of a run made by ser-tf finetune",
        ),
        (
            {"run.json": '{"name": "from a different program"}'},
            "{path}/run.json: expected the identity of a run; give the folder of a run made by ser-tf finetune",
        ),
        (
            {"run.json": '{"identity": {}}', "unfinished-metrics.json": "{"},
            "{path}: this run is not finished; start the same ser-tf finetune command again and it resumes",
        ),
    ],
    ids=["absent", "no run", "damaged", "foreign", "unfinished"],
)
def test_what_is_no_finished_run_is_refused(run, files, message):
    if files is not None:
        run.path.mkdir(parents=True)
        for name, content in files.items():
            (run.path / name).write_text(content)
    with pytest.raises(UserError, match=f"^{re.escape(message.format(path=run.path))}$"):
        run.require_finished()


def test_a_file_stands_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    write_text(path, "epoch\n")

    def killed(self, *_arguments, **_options):
        with self.open("wb") as file:
            file.write(b"ep")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "epoch,loss\n")
    assert path.read_text() == "epoch\n"


def test_json_comes_back(tmp_path):
    value = {"emotions": ["happy", "fröhlich"], "uar": 1 / 3, "none": None}
    write_json(tmp_path / "metrics.json", value)
    assert read_json(tmp_path / "metrics.json", remedy="unused") == value
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize(
    ("identity", "problem"),
    [
        ([], "expected the identity of a run"),
        (None, "expected the identity of a run"),
        ({"corpus": 7}, "corpus: expected text. Received: 7"),
        ({"fold": "1"}, "fold: expected a whole number. Received: '1'"),
        ({"train_speakers": "ravdess:01"}, "train_speakers: expected a list"),
        ({"test_speakers": [1]}, "test_speakers: expected text. Received: 1"),
        ({"weights": "S3"}, "weights: expected a mapping or null. Received: 'S3'"),
        ({"weights": {"afresh": 1}}, "weights: afresh: expected a list. Received: 1"),
        ({"weights": {"started_from": {"strategy": []}}}, "weights: strategy: expected text"),
        ({"left_out": {}}, "left_out: expected trained_on, tested_on. Received: no trained_on"),
    ],
)
def test_an_identity_of_a_wrong_shape_is_refused(run, identity, problem):
    run.path.mkdir(parents=True)
    write_json(run.identity, {"identity": identity})
    with pytest.raises(UserError, match=re.escape(f"{run.identity}: {problem}")):
        run.read_identity()


@pytest.mark.parametrize("made_with", [[], {"packages": []}, {"packages": {"keras": 3}}, {"commit": 1}])
def test_provenance_may_be_incomplete_but_not_of_a_wrong_shape(begun, made_with):
    content = {"identity": IDENTITY}
    write_json(begun.identity, content)
    assert begun.read_made_with() == {}
    write_json(begun.identity, content | {"made_with": made_with})
    with pytest.raises(UserError, match=rf"^{begun.identity}: made_with: .*expected .*; train this run again$"):
        begun.read_made_with()


def test_a_result_of_a_wrong_shape_is_refused(begun):
    write_json(begun.metrics, {"test": {"wa": "high"}})
    message = r"metrics.json: test: wa: expected a number. Received: 'high'; remove the folder and start again$"
    with pytest.raises(UserError, match=message):
        begun.result(print, {"test": {"wa": float}})
