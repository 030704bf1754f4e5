"""Shards on a cluster of two local Ray nodes, one of which is killed during the work."""

import os
import signal
import time
from functools import partial
from pathlib import Path

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
    """Prologue of each task: the second shard of that node halts in its midst; the other node's third awaits this.

    So the one has finished a shard and is at another, and there is work left, when it is killed, however fast they are.
    """
    halts = ray.get_runtime_context().get_node_id() == node

    def write(task):
        begun.append(task.records.name)
        if not halts and len(begun) == 3:
            end = time.monotonic() + 600
            while not halted.exists():
                assert time.monotonic() < end
                time.sleep(0.02)
        return write_shard(task, halt if halts and len(begun) == 2 else lambda path: None)

    def halt(path):
        if halted.exists():  # this is the second recording
            time.sleep(600)
        halted.touch()

    ray_engine.write_shard = write


def kill(cluster, node) -> None:
    """Kill a node and all its workers at once, as a power failure does."""
    (raylet,) = (started.process.pid for started in node.all_processes["raylet"])
    workers = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    for process in (raylet, *map(int, workers)):
        os.kill(process, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def test_a_node_that_is_killed_loses_and_doubles_nothing(voices, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]))
    monkeypatch.setenv("RAY_worker_niceness", "0")
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_on_cores", lambda tasks, workers, prologue, report: map(write_shard, tasks))
        expected = prepare(voices, tmp_path / "undisturbed", Config(), report=print).out
    out, halted = tmp_path / "out", tmp_path / "halted"
    half_written: list[str] = []
    lines: list[str] = []
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": IMPATIENT}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        doomed, _ = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False)
        original = module.run_on_ray

        def until_one_has_halted(*arguments):
            for number in original(*arguments):
                yield number
                if halted.exists() and doomed in cluster.worker_nodes:
                    kill(cluster, doomed)
                    half_written.extend(path.name for path in out.glob("unfinished-*.tfrecord"))

        monkeypatch.setattr(module, "run_on_ray", until_one_has_halted)
        prologue = partial(halting, doomed.node_id, halted)
        prepared = prepare(voices, out, Config(), engine="ray", prologue=prologue, report=lines.append)
    finally:
        ray.shutdown()
        cluster.shutdown()
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
