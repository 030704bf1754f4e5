"""Folds one after another: what each brings must not depend on the others."""

import re
import shutil
from dataclasses import replace

import pytest

from ser_tf.corpora import open_corpus
from ser_tf.corpora.folds import load_scheme
from ser_tf.errors import UserError
from ser_tf.experiments import cross_validation
from ser_tf.experiments.cross_validation import CrossValidation

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def cross_validate(tones, small, tmp_path):
    """Makes some runs of the product, and gives the results and what was reported."""
    short = replace(small, training=replace(small.training, maximum_epochs=2))

    def run(strategies, folds, seeds=(0,), weights=None, start_from=None, folder="runs"):
        corpus = open_corpus(tones)
        scheme = load_scheme("complete", corpus)
        runs = CrossValidation(corpus, scheme, short, strategies, folds, seeds, weights, start_from, tmp_path / folder)
        lines = []
        return list(runs.run(lines.append)), lines

    return run


@pytest.fixture
def untrained(monkeypatch):
    """Replaces building and training; gives the networks that were built, and fold and network of each run."""
    built, used = [], []

    def build(task):
        built.append(task.strategy_name)
        return task.strategy_name

    def finetune(task, run, report, network):
        used.append((task.fold.number, network))
        return {"weights": task.weights}

    monkeypatch.setattr(cross_validation, "FoldNetwork", build)
    monkeypatch.setattr(cross_validation, "finetune", finetune)
    return built, used


def test_a_run_brings_the_same_after_others_as_alone(cross_validate, tmp_path):
    cross_validate(["S4"], [1, 2], seeds=[0, 1], folder="after others")
    cross_validate(["S4"], [2], seeds=[1], folder="alone")
    for file in ("log.csv", "predictions.csv", "confusion.csv", "metrics.json"):
        after, alone = (tmp_path / folder / "S4-fold2-seed1" / file for folder in ("after others", "alone"))
        assert after.read_bytes() == alone.read_bytes(), file
    first, second = (tmp_path / f"after others/S4-fold2-seed{seed}/log.csv" for seed in (0, 1))
    assert first.read_bytes() != second.read_bytes()


def test_all_runs_of_a_fold_come_before_the_next_fold_and_share_networks(cross_validate, untrained):
    built, used = untrained
    _, lines = cross_validate(["S1", "S3"], [2, 1], seeds=[0, 1])
    assert built == ["S1", "S3"]
    assert used == [(fold, network) for fold in (2, 1) for _seed in (0, 1) for network in built]
    left_out, *runs = lines
    assert left_out.startswith("left out: ")
    assert [re.search(r"run \d of \d", line)[0] for line in runs] == [f"run {number} of 8" for number in range(1, 9)]
    # The time to go is told as soon as each strategy has run once; before, it would be a guess.
    assert ["about 0 min to go" in line for line in runs] == [False] * 2 + [True] * 6


def test_runs_start_from_another_strategy_of_the_same_fold_and_seed(cross_validate, untrained, finetuned, tmp_path):
    with pytest.raises(UserError, match="S3-fold1-seed0: expected the folder of a run; there is none"):
        cross_validate(["S4"], [1], start_from="S3")
    shutil.copytree(finetuned("S3").path, tmp_path / "runs/S3-fold1-seed0")
    results, _ = cross_validate(["S4", "S5"], [1], start_from="S3")
    assert [result["weights"] for result in results] == [tmp_path / "runs/S3-fold1-seed0/embedding.weights.h5"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategies": ["S1", "S2"], "folds": [1]}, "strategy S2 without pre-trained weights is S1"),
        ({"strategies": ["S1"], "folds": [1, 7]}, "fold: expected 1 to 6"),
        ({"strategies": ["S3"], "folds": [1], "weights": "w.h5", "start_from": "S1"}, "one of the two at most"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(cross_validate, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        cross_validate(**arguments)
    assert not (tmp_path / "runs").exists()
