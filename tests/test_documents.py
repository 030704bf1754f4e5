"""JSON and YAML from strangers: each ends in one line, and none takes long."""

import json
import os
from pathlib import Path

import pytest

from ser_tf.config import Config
from ser_tf.documents import (
    DEEPEST,
    LARGEST_JSON_BYTES,
    LARGEST_YAML_BYTES,
    misfit,
    parse_json,
    parse_yaml,
    read_json,
    read_yaml,
)
from ser_tf.errors import UserError

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)
"""A list of nine lists of nine lists ...: 9 ** 9 values."""

HOSTILE_YAML = {
    "nested aliases": (LAUGHS, "more than 100,000 values"),
    "merged aliases": (LAUGHS.replace("[x", "[{<<: {b: c}}, x"), "more than 100,000 values"),
    "an alias within itself": ("&a [*a]", "the alias *a inside its own anchor"),
    "brackets": ("[" * 10_000, "level"),
    "closed brackets": ("[" * 500 + "]" * 500, f"more than {DEEPEST} levels"),
    "indented": ("".join(f"{' ' * level}a:\n" for level in range(300)), f"more than {DEEPEST} levels"),
    "no date": ("training: 2024-99-99", "month must be in 1..12"),
    "no number": ("training: !!int x", "invalid literal"),
    "an empty number": ("training: !!int ''", ""),
    "no truth": ("training: !!bool x", "x"),
    "no time": ("training: !!timestamp x", ""),
    "a number of many digits": ("training: {seed: " + "1:" * 10_000 + "1}", "a value of 20,001 characters"),
    "a long whole number": ("training: {seed: " + "9" * 5000 + "}", "a value of 5,000 characters"),
    "a number that Python does not write": ("training: {seed: 0x" + "f" * 3600 + "}", "a value of 3,602 characters"),
    "a name twice": ("vad: {mode: 1}\nloss: {}\nvad: {mode: 2}", "vad for the second time, in line 3"),
    "a key that is a list": ("[a]: b", "unhashable"),
    "Python": ("!!python/object/apply:os.getpid []", "could not determine a constructor"),
}


@pytest.mark.parametrize("case", HOSTILE_YAML)
def test_hostile_yaml_is_refused_in_one_line(case, tmp_path):
    content, reason = HOSTILE_YAML[case]
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"^{path}: expected a configuration in YAML; .") as caught:
        Config.load(path)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 1200


def test_aliases_within_the_bounds_mean_what_they_say():
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder", "a loop", "too large"])
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_is_no_small_file_is_refused_before_it_is_read(kind, form, tmp_path):
    path = tmp_path / "file"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a loop":
        path.symlink_to(path)
    else:
        path.touch()
        os.truncate(path, 1 + (LARGEST_YAML_BYTES if form == "yaml" else LARGEST_JSON_BYTES))
    with pytest.raises(UserError, match=rf"^{path}: expected "):
        if form == "yaml":
            read_yaml(path, "a configuration")
        else:
            read_json(path, "restore it")


@pytest.mark.parametrize(
    "content",
    ["[" * 5000 + "]" * 5000, '{"a":' * 500 + "1" + "}" * 500, "9" * 5000, "{", "", "nonsense"],
    ids=["deep", "less deep", "long", "cut", "empty", "none"],
)
def test_hostile_json_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"^{path}: expected a readable JSON file; restore it$"):
        read_json(path, "restore it")


def test_json_is_as_deep_as_it_may_be():
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)
    with pytest.raises(ValueError, match="more than 100 levels"):
        parse_json("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))


SHAPE = {"name": str, "score": float, "count": int, "sides": [str], "left_out": {str: int}, "start": (str, None)}
FITTING = {"name": "S1", "score": 1, "count": 2, "sides": ["a"], "left_out": {"b": 3}, "start": None, "more": [{}]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"start": "S3", "score": 0.5, "sides": []}, ""),
        ({"name": 1}, "name: expected text. Received: 1"),
        ({"score": True}, "score: expected a number. Received: True"),
        ({"count": 2.0}, "count: expected a whole number. Received: 2.0"),
        ({"count": False}, "count: expected a whole number. Received: False"),
        ({"sides": "a"}, "sides: expected a list. Received: 'a'"),
        ({"sides": ["a", None]}, "sides: expected text. Received: None"),
        ({"left_out": {"b": "c"}}, "left_out: expected a whole number. Received: 'c'"),
        ({"left_out": []}, "left_out: expected a mapping of names. Received: []"),
        ({"start": 1}, "start: expected text or null. Received: 1"),
    ],
)
def test_what_does_not_fit_is_named(change, problem):
    assert misfit(FITTING | change, SHAPE) == problem


def test_what_is_missing_is_named():
    assert misfit({"a": 1}, {"a": int, "b": int}) == "expected a, b. Received: no b"
    assert misfit([], {"a": int, "b": int}) == "expected a mapping of a, b. Received: []"


def test_a_file_of_a_wrong_shape_is_refused_with_its_name(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"test": 1}))
    with pytest.raises(UserError, match=rf"^{path}: test: expected a mapping. Received: 1; train the run again$"):
        read_json(Path(path), "train the run again", {"test": dict})
