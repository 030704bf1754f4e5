"""Cross-validation: the result of a run must not depend on the other runs."""

import re
import shutil
from collections import Counter
from dataclasses import replace

import keras
import numpy as np
import pytest

from ser_tf.corpora.folds import load_scheme
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError
from ser_tf.experiments import cross_validation
from ser_tf.experiments.cross_validation import CrossValidation
from ser_tf.runs.folder import RunFolder
from ser_tf.training.finetune import finetune
from ser_tf.training.progress import Progress

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def cross_validate(tones, small, tmp_path):
    """Makes some runs of the product, and gives the results and what was reported."""
    short = replace(small, training=replace(small.training, maximum_epochs=1))

    def run(strategies, folds, seeds=(0,), weights=None, start_from=None, folder="runs"):
        corpus = open_corpus(tones)
        scheme = load_scheme("complete", corpus)
        runs = CrossValidation(corpus, scheme, short, strategies, folds, seeds, weights, start_from, tmp_path / folder)
        lines = []
        return list(runs.run(runs.tasks(), lines.append)), lines

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


@pytest.fixture
def states(monkeypatch):
    """The value of every variable that training changes, as it was saved last in each run folder."""
    states = {}
    save = Progress.save

    def saved(self, path, variables):
        save(self, path, variables)
        states[path.parent] = [(variable.name, keras.ops.convert_to_numpy(variable).copy()) for variable in variables]

    monkeypatch.setattr(Progress, "save", saved)
    return states


@pytest.fixture
def compiled(monkeypatch):
    """After each run, how often Keras had traced a step of training or prediction, and JAX had compiled anything."""
    counts, after_each = Counter(), []

    def counted(name):
        step = getattr(keras.Model, name)

        def traced(self, *arguments, **options):
            counts[name] += 1  # what is compiled runs without coming here
            return step(self, *arguments, **options)

        return traced

    for name in ("train_step", "predict_step"):
        monkeypatch.setattr(keras.Model, name, counted(name))
    if keras.backend.backend() == "jax":
        import jax

        def compiled_by_jax(event, seconds, **_):
            counts["jax"] += event == "/jax/core/compile/backend_compile_duration"

        jax.monitoring.register_event_duration_secs_listener(compiled_by_jax)

    def run(*arguments):
        result = finetune(*arguments)
        after_each.append(dict(counts))
        return result

    monkeypatch.setattr(cross_validation, "finetune", run)
    return after_each


@pytest.mark.parametrize(("strategy", "seeds"), [("S3", [0]), ("S5", [0, 1])], ids=["S3", "S5"])
def test_a_run_brings_the_same_after_others_as_alone(cross_validate, states, compiled, tmp_path, strategy, seeds):
    cross_validate([strategy], [1, 2], seeds, folder="after others")
    first, *others = compiled
    assert (first["train_step"], first["predict_step"]) == (1, 1)  # batches of one length have one shape
    assert others == [first] * (2 * len(seeds) - 1)  # later runs compile nothing

    cross_validate([strategy], [2], seeds[-1:], folder="alone")
    after, alone = (tmp_path / folder / f"{strategy}-fold2-seed{seeds[-1]}" for folder in ("after others", "alone"))
    for file in ("log.csv", "predictions.csv", "confusion.csv", "metrics.json"):
        assert (after / file).read_bytes() == (alone / file).read_bytes(), file
    names = [name for name, _ in states[alone]]
    assert {"kernel", "moving_mean", "iteration", "learning_rate"} <= set(names)
    assert any(name.endswith("kernel_momentum") for name in names)
    for (name, value), (_, expected) in zip(states[after], states[alone], strict=True):
        np.testing.assert_array_equal(value, expected, err_msg=name)
    logs = {path.read_bytes() for path in (tmp_path / "after others").glob("*/log.csv")}
    assert len(logs) == 2 * len(seeds)  # every fold and seed trains differently


def test_all_runs_of_a_fold_come_before_the_next_fold_and_share_networks(cross_validate, untrained):
    built, used = untrained
    _, lines = cross_validate(["S1", "S3"], [2, 1], seeds=[0, 1])
    assert built == ["S1", "S3"]
    assert used == [(fold, network) for fold in (2, 1) for _seed in (0, 1) for network in built]
    assert [re.search(r"run \d of \d, .. from random weights", line)[0] for line in lines] == [
        f"run {number} of 8, {strategy} from random weights" for number, (_, strategy) in enumerate(used, start=1)
    ]
    # The remaining time is shown once each strategy has finished a run.
    assert ["about 0 min to go" in line for line in lines] == [False] * 2 + [True] * 6


def test_runs_start_from_another_strategy_of_the_same_fold_and_seed(cross_validate, untrained, finetuned, tmp_path):
    with pytest.raises(UserError, match="S3-fold1-seed0: expected the folder of a run; there is none"):
        cross_validate(["S4"], [1], start_from="S3")
    shutil.copytree(finetuned("S3").path, tmp_path / "runs/S3-fold1-seed0")
    results, lines = cross_validate(["S4", "S5"], [1], start_from="S3")
    assert [re.search(r"S\d from .*", line)[0] for line in lines] == [
        "S4 from S3 from random weights",
        "S5 from S3 from random weights",
    ]
    assert [result["weights"] for result in results] == [tmp_path / "runs/S3-fold1-seed0/embedding.weights.h5"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategies": ["S1", "S2"], "folds": [1]}, "strategy S2 without pre-trained weights is S1"),
        ({"strategies": ["S1"], "folds": [1, 7]}, "fold: expected 1 to 6"),
        ({"strategies": ["S3"], "folds": [1], "weights": "w.h5", "start_from": "S1"}, "one of the two at most"),
    ],
)
def test_impossible_runs_are_refused_before_any_training(cross_validate, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        cross_validate(**arguments)
    assert not (tmp_path / "runs").exists()


def test_the_folder_of_another_run_is_refused_before_anything_is_trained(cross_validate, task_of, small, tmp_path):
    task = task_of("S1", config=replace(small, training=replace(small.training, learning_rate=0.5)))
    RunFolder(tmp_path / "runs/S1-fold1-seed0").begin(task.identity(), task.config)
    with pytest.raises(UserError, match="S1-fold1-seed0: holds a run with another configuration; choose another --run"):
        cross_validate(["S1"], [2, 1])
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["S1-fold1-seed0"]
