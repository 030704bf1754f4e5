"""Sweeps: the trainings of a grid, resuming, and the table."""

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ser_tf.cli import door
from ser_tf.config import Config
from ser_tf.corpora.folds import load_scheme
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError
from ser_tf.experiments import sweep
from ser_tf.experiments.sweep import OPTIMISTIC, Sweep, parse_grid
from ser_tf.network.se_resnet import embedding_network
from ser_tf.runs.files import write_json
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.weights import method_of, save_weights
from ser_tf.training.progress import Progress

pytestmark = pytest.mark.usefixtures("shallow")

GRID = {"network.clusters": (2, 3), "loss.alpha": (0.1, 0.2)}


@pytest.fixture
def sweep_of(tones, small, tmp_path):
    """Makes a sweep of S5 on the tones."""

    def make(grid=GRID, folds=(1,), *, strategy="S5", config=small, seeds=(0,), weights=None, start_from=None):
        corpus = open_corpus(tones)
        scheme = load_scheme("complete", corpus)
        folder = tmp_path / "sweep"
        return Sweep(corpus, scheme, config, strategy, grid, folds, seeds, weights, start_from, folder)

    return make


@pytest.fixture
def untrained(monkeypatch):
    """Replaces training by two epochs of UAR clusters / 10 and clusters / 10 + alpha + fold / 100; lists the tasks."""
    tasks = []

    def trained(task, run, report):
        run.begin(task.identity(), task.config)
        run.state.touch()
        tasks.append(task)
        first = task.config.network.clusters / 10
        second = first + task.config.loss.alpha + task.fold.number / 100
        return None, Progress([{"validation_uar": uar} for uar in (first, second)])

    monkeypatch.setattr(sweep, "train_fold", trained)
    return tasks


@pytest.fixture
def start(small, tmp_path) -> Path:
    """FOLDER/STRATEGY of a finished run of fold 1 and seed 0, with untrained weights of 2 clusters and 2 ghosts."""
    run = RunFolder(tmp_path / "evaluated/S3-fold1-seed0")
    run.path.mkdir(parents=True)
    write_json(run.identity, {"identity": {}})
    write_json(run.metrics, {})
    save_weights(embedding_network(small.network), run.weights, {"speakers": ["table:3"], "method": method_of(small)})
    return tmp_path / "evaluated/S3"


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_calls_with_different_folds_share_a_table(sweep_of, untrained, tmp_path):
    lines = []
    sweep_of(folds=[2]).run(lines.append)
    assert [re.search(r"run \d of 4", line)[0] for line in lines] == [f"run {number} of 4" for number in (1, 2, 3, 4)]
    assert ["to go" in line for line in lines] == [False, True, True, True]
    last = sweep_of(folds=[1, 2])
    last.run(lines.append)
    assert sum(line.endswith("already finished") for line in lines) == 4
    trained = [(task.fold.number, task.config.network.clusters, task.config.loss.alpha) for task in untrained]
    assert trained == [(fold, clusters, alpha) for fold in (2, 1) for clusters in (2, 3) for alpha in (0.1, 0.2)]

    rows = rows_of(tmp_path / "sweep/sweep.csv")
    columns = ["fold", "seed", "network.clusters", "loss.alpha", "best_validation_uar", "best_epoch", "per_epoch"]
    assert list(rows[0]) == columns
    assert list(rows[0].values()) == ["1", "0", "2", "0.1", "0.3100", "2", "0.2000 0.3100"]
    assert [(row["fold"], row["network.clusters"], row["loss.alpha"]) for row in rows] == [
        (fold, clusters, alpha) for fold in "12" for clusters in "23" for alpha in ("0.1", "0.2")
    ]
    # 31, 32: 20 from clusters, 10 from alpha, 1 and 2 from the folds; mean 31.5, range 1.
    title, heading, first, *_, note = last.table().splitlines()
    assert title == "S5 from random weights: best validation UAR in percent"
    assert heading.split() == ["fold", "1", "fold", "2", "mean", "range"]
    assert first.split() == ["network.clusters=2-loss.alpha=0.1", "31.0", "32.0", "31.5", "1.0"]
    assert note == OPTIMISTIC
    about = json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert about["parameters"] == {"network.clusters": [2, 3], "loss.alpha": [0.1, 0.2]}
    assert (about["strategy"], about["start"], about["epochs"]) == ("S5", "random weights", 6)
    assert {"corpus", "scheme", "data_hash", "scheme_hash", "made_with"} <= about.keys()


def test_the_command_trains_each_point_and_prints_the_table(tones, small, start, tmp_path, monkeypatch, capsys):
    small.save(tmp_path / "small.yaml")
    options = ["--preset", tmp_path / "small.yaml", "--training.maximum-epochs", 1, "--strategy", "S3", "--fold", 1]
    grid = ["--over", "network.clusters=3", "--start-from", start, "--run", tmp_path / "sweep"]
    monkeypatch.setattr(sys, "argv", list(map(str, ["ser-tf", "sweep", "--corpus", tones, *options, *grid])))
    door.main()
    lines = capsys.readouterr().out.splitlines()
    (row,) = rows_of(tmp_path / "sweep/sweep.csv")
    folder = tmp_path / "sweep/fold1-seed0-network.clusters=3"
    assert row["network.clusters"] == "3"
    assert row["per_epoch"] == f"{float(rows_of(folder / 'log.csv')[0]['validation_uar']):.4f}"
    assert lines[-2].split()[:2] == ["network.clusters=3", f"{100 * float(row['best_validation_uar']):.1f}"]
    assert not (folder / "metrics.json").exists()
    assert any("3 afresh" in line for line in lines)
    assert lines[-4].startswith(f"S3 from {start}-foldN-seedN, ghost_vlad afresh: best validation UAR")


def test_a_killed_sweep_resumes_and_its_trainings_cannot_be_used_as_runs(sweep_of, untrained, monkeypatch, tmp_path):
    train_fold, folder = sweep.train_fold, tmp_path / "sweep/fold1-seed0-network.clusters=3-loss.alpha=0.1"

    def killed(task, run, report):
        if task.config.network.clusters == 3:
            run.begin(task.identity(), task.config)
            raise KeyboardInterrupt
        return train_fold(task, run, report)

    monkeypatch.setattr(sweep, "train_fold", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep_of().run(print)
    assert len(rows_of(tmp_path / "sweep/sweep.csv")) == len(untrained) == 2
    monkeypatch.setattr(sweep, "train_fold", train_fold)
    sweep_of().run(print)
    assert len(rows_of(tmp_path / "sweep/sweep.csv")) == len(untrained) == 4
    assert not (folder / "state.npz").exists()
    with pytest.raises(UserError, match="this run is not finished"):
        RunFolder(folder).require_finished()


def test_only_folds_that_every_point_has_finished_are_compared(sweep_of, untrained, monkeypatch):
    sweep_of(folds=[1]).run(print)
    train_fold = sweep.train_fold

    def killed(task, run, report):
        if task.config.loss.alpha == 0.2:
            raise KeyboardInterrupt
        return train_fold(task, run, report)

    monkeypatch.setattr(sweep, "train_fold", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep_of(folds=[2]).run(print)
    _, heading, *_, left_out, _ = sweep_of().table().splitlines()
    assert heading.split() == ["fold", "1", "mean", "range"]
    assert left_out == "Not shown until every point has finished: fold 2."


def test_an_ablation_changes_one_parameter_at_a_time(sweep_of, untrained, tmp_path):
    grid = {"network.clusters": (3, 2, 4), "loss.alpha": (0.1, 0.2)}
    ablation = replace(sweep_of(grid), one_at_a_time=True)
    ablation.run(print)
    assert [(task.config.network.clusters, task.config.loss.alpha) for task in untrained] == [
        (3, 0.1),
        (2, 0.1),
        (4, 0.1),
        (3, 0.2),
    ]
    # 10 for each cluster, 10 or 20 from alpha, 1 from the fold.
    assert [line.split()[:2] for line in ablation.table().splitlines()[2:6]] == [
        ["unchanged", "41.0"],
        ["network.clusters=2", "31.0"],
        ["network.clusters=4", "51.0"],
        ["loss.alpha=0.2", "51.0"],
    ]
    assert (tmp_path / "sweep/fold1-seed0-loss.alpha=0.2").is_dir()
    with pytest.raises(UserError, match="holds a sweep with another one_at_a_time; choose another --run"):
        sweep_of(grid).run(print)


def test_several_seeds_are_named_in_the_table(sweep_of, untrained, small):
    made = sweep_of({"loss.alpha": (0.1,)}, seeds=[3, 4])
    made.run(print)
    assert [task.config.training.seed for task in untrained] == [3, 4]
    assert "fold 1 seed 3  fold 1 seed 4" in made.table()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"grid": {"loss.alpha": (0.1, 0.3)}}, "parameters"),
        ({"strategy": "S4"}, "strategy"),
        ({"learning_rate": 0.1}, "configuration"),
        ({"maximum_epochs": 7}, "configuration"),
    ],
)
def test_a_folder_of_another_sweep_is_refused(sweep_of, untrained, small, other, message):
    grid = {"loss.alpha": (0.1,)}
    sweep_of(grid).run(print)
    settings = {name: other[name] for name in other if name in ("learning_rate", "maximum_epochs")}
    config = replace(small, training=replace(small.training, **settings))
    others = {"grid": grid} | {name: value for name, value in other.items() if name not in settings}
    with pytest.raises(UserError, match=f"sweep: holds a sweep with another {message}; choose another --run"):
        sweep_of(**others, config=config, folds=[2]).run(print)
    assert len(untrained) == 1


def test_a_folder_of_something_else_is_refused(sweep_of, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/notes.txt").touch()
    with pytest.raises(UserError, match="expected the folder of a sweep or an empty one; choose another --run"):
        sweep_of().run(print)


def test_swept_layers_start_afresh_for_every_value(sweep_of, untrained, start):
    sweep_of({"network.ghost_clusters": (0, 2)}, start_from=start).run(print)
    assert [task.config.network.ghost_clusters for task in untrained] == [0, 2]
    assert [task.afresh for task in untrained] == [("ghost_vlad",)] * 2
    assert [task.identity()["weights"]["afresh"] for task in untrained] == [["ghost_vlad"]] * 2


def test_margins_are_compared_from_weights_taken_in_full(sweep_of, untrained, start, tmp_path):
    sweep_of({"loss.alpha": (0.1, 0.2)}, start_from=start).run(print)
    assert [task.afresh for task in untrained] == [()] * 2
    assert json.loads((tmp_path / "sweep/sweep.json").read_text())["start"] == f"{start}-foldN-seedN"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": [1, 7]}, "fold: expected 1 to 6"),
        ({"strategy": "S2"}, "strategy S2 without pre-trained weights is S1"),
        ({"start_from": Path("absent/S3")}, "absent/S3-fold1-seed0: expected the folder of a run; there is none"),
        ({"start_from": Path("S3"), "weights": Path("w")}, "weights and start_from: expected one of the two at most"),
        ({"grid": {"training.batch_size": (16, 49)}}, "batch_size: expected at most the number of training"),
    ],
)
def test_impossible_sweeps_are_refused_before_any_training(sweep_of, untrained, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        sweep_of(**arguments).run(print)
    assert untrained == []
    assert not (tmp_path / "sweep").exists()


def test_a_width_cannot_be_compared_from_weights_of_one(sweep_of, untrained, start):
    with pytest.raises(UserError, match=r"trained with network.width 0.125, and this run has 0.25"):
        sweep_of({"network.width": (0.125, 0.25)}, start_from=start).run(print)
    assert untrained == []


def test_values_are_read_as_in_a_configuration():
    texts = ["loss.alpha=0.1,1e-3", "loss.neutral=excluded,negative", "augmentation.noise_snr_db=[5,25],[0,10]"]
    assert parse_grid(texts, Config()) == {
        "loss.alpha": (0.1, 0.001),
        "loss.neutral": ("excluded", "negative"),
        "augmentation.noise_snr_db": ((5.0, 25.0), (0.0, 10.0)),
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "over: expected parameters and their values, such as network.clusters=2,4,8. Received: none"),
        (["network.clusters"], "over: expected NAME=VALUE,VALUE,... as in network.clusters=2,4,8. Received: "),
        (["loss.alpha=0.1]"], "over: expected NAME=VALUE,VALUE,..."),
        (["loss.gamma=1"], "unknown parameter 'loss.gamma'; expected one of loss.mining, loss.alpha, loss.beta, "),
        (["alpha=1"], "unknown parameter 'alpha'; expected one of audio.PARAMETER, "),
        (["network.clusters=2,many"], "network.clusters: expected a whole number. Received: 'many'"),
        (["loss.alpha=-1"], "alpha: expected at least 0. Received: alpha=-1.0"),
        (["loss.alpha=0.1,1e-1"], "over: expected different values of loss.alpha. Received: 0.1,1e-1"),
        (["loss.alpha=1", "loss.alpha=2"], "over: expected each parameter once. Received: loss.alpha twice"),
        (["training.seed=1,2"], "over: training.seed cannot be swept; use --seeds"),
    ],
)
def test_an_invalid_grid_is_refused(texts, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        parse_grid(texts, Config())
