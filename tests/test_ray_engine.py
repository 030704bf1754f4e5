"""Shards, trainings and yardsticks on a cluster of two local Ray nodes, one of which is killed during the work."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from ser_tf.config import Config
from ser_tf.pretraining import prepare as module
from ser_tf.pretraining import ray_engine
from ser_tf.pretraining.prepare import prepare
from ser_tf.pretraining.shard_writer import write_shard

ray = pytest.importorskip("ray", reason="Ray is not there; the extra [ray] brings it")
cluster_utils = pytest.importorskip("ray.cluster_utils")

RECORDINGS, SHARDS = 48, 16
IMPATIENT = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_timeout_ms": 60_000,
    "health_check_failure_threshold": 2,
    "raylet_rpc_server_reconnect_timeout_base_s": 1,
    "raylet_rpc_server_reconnect_timeout_max_s": 2,
    "core_worker_rpc_server_reconnect_timeout_base_s": 1,
    "core_worker_rpc_server_reconnect_timeout_max_s": 2,
}
"""A cluster that gives a dead node up in seconds, by default in minutes, and waits for a busy one."""


@pytest.fixture
def voices(tmp_path) -> Path:
    """Six speakers with eight recordings of 0.6 s of noise each."""
    generator = np.random.default_rng(0)
    root = tmp_path / "voices"
    for number in range(RECORDINGS):
        path = root / f"speaker-{number % 6}" / f"take-{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(9600), 16_000)
    return root


begun: list[str] = []
"""In a worker: the shards it has begun."""


def halting(node: str, halted: Path) -> None:
    """Prologue of each task: that node halts inside a shard, its second or a later one; the other's third awaits this.

    So it has finished a shard, has written a part of another, and there is work left, when it is killed, at any speed.
    A shard of one recording has no inside.
    """
    halts = ray.get_runtime_context().get_node_id() == node
    of_this_shard: list[str] = []

    def write(task):
        begun.append(task.records.name)
        if not halts and len(begun) == 3:
            end = time.monotonic() + 600
            while not halted.exists():
                assert time.monotonic() < end
                time.sleep(0.02)
        return write_shard(task, halt if halts and len(begun) >= 2 else lambda path: None)

    def halt(path):
        of_this_shard.append(path)
        if len(of_this_shard) == 2:
            halted.touch()
            time.sleep(600)

    ray_engine.write_shard = write


def kill(cluster, node) -> None:
    """Kill a node and all its workers at once, as a power failure does."""
    (raylet,) = (started.process.pid for started in node.all_processes["raylet"])
    workers = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    for process in (raylet, *map(int, workers)):
        os.kill(process, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def cluster(monkeypatch) -> Iterator[tuple[Any, Any]]:
    """A cluster of two nodes of one core beside its head, and the node that a test kills."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]))
    monkeypatch.setenv("RAY_worker_niceness", "0")
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": IMPATIENT}
    made = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        doomed, _ = [made.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=made.address, log_to_driver=False)
        yield made, doomed
    finally:
        ray.shutdown()
        made.shutdown()


def test_a_node_that_is_killed_loses_and_doubles_nothing(cluster, voices, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_on_cores", lambda tasks, workers, prologue, report: map(write_shard, tasks))
        expected = prepare(voices, tmp_path / "undisturbed", Config(), report=print).out
    out, halted = tmp_path / "out", tmp_path / "halted"
    half_written: list[str] = []
    lines: list[str] = []
    nodes, doomed = cluster
    original = module.run_on_ray

    def until_one_has_halted(*arguments):
        for number in original(*arguments):
            yield number
            if halted.exists() and doomed in nodes.worker_nodes:
                kill(nodes, doomed)
                half_written.extend(path.name for path in out.glob("unfinished-*.tfrecord"))

    monkeypatch.setattr(module, "run_on_ray", until_one_has_halted)
    prologue = partial(halting, doomed.node_id, halted)
    prepared = prepare(voices, out, Config(), engine="ray", prologue=prologue, report=lines.append)
    lost = [line for line in lines if "was lost with its worker" in line]
    assert any(name.endswith(line.partition(" ")[0]) for name in half_written for line in lost), (half_written, lines)
    assert (prepared.utterances, prepared.shards, prepared.written) == (RECORDINGS, SHARDS, SHARDS)
    manifest = pd.read_parquet(out / "manifest.parquet")
    assert sorted(manifest.path) == sorted(str(path.relative_to(voices)) for path in voices.rglob("*.wav"))
    assert not manifest.duplicated(["shard", "place"]).any()
    names = sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        assert (out / name).read_bytes() == (expected / name).read_bytes()


def shallow(one, node: str, halted: Path, train):
    """Train on a node with a network of one block; after its first epoch the doomed node halts until it is killed."""
    from ser_tf.network import se_resnet
    from ser_tf.training.progress import Progress

    se_resnet.STAGES = (se_resnet.STAGES[0]._replace(blocks=1),)
    save, is_doomed = Progress.save, ray.get_runtime_context().get_node_id() == node

    def saved(progress, path, variables):
        save(progress, path, variables)
        with (halted.parent / "epochs").open("a") as file:
            file.write(f"{path.parent.name} {len(progress.epochs)}\n")
        if is_doomed:
            halted.touch()
            time.sleep(600)

    Progress.save = saved
    return train(one)


def test_an_evaluation_that_loses_a_node_ends_like_one_on_one_machine(cluster, tones, small, tmp_path, monkeypatch):
    from ser_tf.cli.training import _table_of_folds
    from ser_tf.corpora.folds import load_scheme
    from ser_tf.corpora.opening import open_corpus
    from ser_tf.experiments import cross_validation
    from ser_tf.network import se_resnet

    nodes, doomed = cluster
    monkeypatch.setenv("SER_TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(se_resnet, "STAGES", (se_resnet.STAGES[0]._replace(blocks=1),))
    monkeypatch.chdir(tmp_path)
    corpus = open_corpus(tones)
    short = replace(small, training=replace(small.training, maximum_epochs=2))
    scheme = load_scheme("complete", corpus)
    alone, spread = (
        cross_validation.CrossValidation(corpus, scheme, short, ["S1"], [1, 2, 3], [0], None, None, Path(name))
        for name in ("alone", "spread")
    )
    list(alone.run(alone.tasks(), print))
    halted, lines = tmp_path / "halted", []
    on_node = partial(shallow, node=doomed.node_id, halted=halted, train=cross_validation.train_alone)
    monkeypatch.setattr(cross_validation, "train_alone", on_node)

    def told(line):
        lines.append(line)
        if line.endswith(": finished") and doomed in nodes.worker_nodes:
            while not halted.exists():
                time.sleep(0.1)
            kill(nodes, doomed)

    tasks = spread.tasks()
    spread.spread(tasks, told)
    (lost,) = (line.partition(" ")[0] for line in lines if "was lost with its worker" in line)
    assert sorted(line for line in lines if line.endswith(": finished")) == [
        f"spread/S1-fold{fold}-seed0: finished" for fold in (1, 2, 3)
    ]
    epochs = (tmp_path / "epochs").read_text().splitlines()
    assert sorted(epochs) == [f"S1-fold{fold}-seed0 {epoch}" for fold in (1, 2, 3) for epoch in (1, 2)]  # none twice
    assert lost in {epoch.partition(" ")[0] for epoch in epochs}
    monkeypatch.setattr(cross_validation, "FoldNetwork", None)  # nothing is left to train
    list(spread.run(tasks, print))
    assert _table_of_folds(spread.summarise()) == _table_of_folds(alone.summarise())
    for run in Path("alone").glob("S1-*"):
        for name in ("predictions.csv", "log.csv"):
            assert (run / name).read_bytes() == (Path("spread") / run.name / name).read_bytes()


def test_yardsticks_and_sweeps_spread_like_on_one_machine(cluster, tones, small, tmp_path, monkeypatch):
    from ser_tf.corpora.folds import load_scheme
    from ser_tf.corpora.opening import open_corpus
    from ser_tf.experiments import sweep, yardsticks
    from ser_tf.network import se_resnet
    from ser_tf.pipeline import prepare_speech

    monkeypatch.setattr(se_resnet, "STAGES", (se_resnet.STAGES[0]._replace(blocks=1),))
    monkeypatch.setenv("SER_TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    corpus = open_corpus(tones)
    scheme = load_scheme("complete", corpus)
    prepared = prepare_speech(corpus.utterances, Config())
    methods = yardsticks.choose(["majority", "mfcc_svm"], corpus)
    compared = partial(yardsticks.compare, methods, corpus, scheme, prepared, protocol="random", report=print)
    alone = compared(folder=Path("alone"))
    lines = []
    yardsticks.spread(methods, corpus, scheme, prepared, protocol="random", folder=Path("spread"), report=lines.append)
    assert len(lines) == 2 * (6 + 6)  # methods, by the folds of the scheme and of the random split
    monkeypatch.setattr(yardsticks, "_predict", None)  # nothing is left to do
    assert compared(folder=Path("spread")) == alone

    once = replace(small, training=replace(small.training, maximum_epochs=1))
    grid = {"training.learning_rate": (1e-3, 1e-2)}
    swept = [
        sweep.Sweep(corpus, scheme, once, "S1", grid, [1], [0], None, None, Path(name)) for name in ("one", "many")
    ]
    swept[0].run(print)
    never = partial(shallow, node="", halted=tmp_path / "halted", train=sweep.train_point)
    monkeypatch.setattr(sweep, "train_point", never)
    swept[1].spread(print)
    monkeypatch.setattr(sweep, "train_fold", None)  # nothing is left to train
    swept[1].run(print)
    assert swept[1].table() == swept[0].table()
    assert Path("many/sweep.csv").read_bytes() == Path("one/sweep.csv").read_bytes()
