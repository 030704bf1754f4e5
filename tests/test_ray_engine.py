"""Shards on a cluster of two local Ray nodes, one of which is killed on the way."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_tf.config import Config
from ser_tf.preparation import prepare as module
from ser_tf.preparation.prepare import prepare
from ser_tf.preparation.shards import write_shard

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture
def voices(tmp_path) -> Path:
    generator = np.random.default_rng(0)
    root = tmp_path / "voices"
    for number in range(48):
        path = root / f"speaker-{number % 6}" / f"take-{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(320_000), 16_000)
    return root


def slowly() -> None:
    """What a worker does first: wait, so that every node is at work when one of them dies."""
    time.sleep(1)


def test_a_node_that_is_killed_loses_and_doubles_nothing(voices, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]))
    monkeypatch.setenv("RAY_worker_niceness", "0")
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_on_cores", lambda tasks, workers, prologue, report: map(write_shard, tasks))
        expected = prepare(voices, tmp_path / "undisturbed", Config(), report=print).out
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False)
        lines: list[str] = []
        original = module.run_on_ray

        def one_node_dies_after_the_third_shard(*arguments):
            for count, number in enumerate(original(*arguments)):
                yield number
                if count == 2:
                    cluster.remove_node(nodes[0], allow_graceful=False)

        monkeypatch.setattr(module, "run_on_ray", one_node_dies_after_the_third_shard)
        out = tmp_path / "out"
        prepared = prepare(voices, out, Config(), engine="ray", prologue=slowly, report=lines.append)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert prepared.utterances == 48
    assert any("was lost with its worker" in line for line in lines), lines
    names = sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        assert (out / name).read_bytes() == (expected / name).read_bytes()
