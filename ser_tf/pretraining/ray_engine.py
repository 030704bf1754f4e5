"""Writes shards on a Ray cluster: one task and one core per shard."""

from collections.abc import Callable, Iterator
from functools import partial

from ser_tf.pretraining.shard_writer import ShardTask, write_shard
from ser_tf.ray_cluster import ClusterTask, run_tasks


def run_on_ray(
    tasks: Iterator[ShardTask], workers: int | None, prologue: Callable[[], None], report: Callable[[str], None]
) -> Iterator[int]:
    """Write shards on the cluster, as `ser_tf.ray_cluster.run_tasks` does tasks.

    Args:
        tasks: the shards; each is taken only when it is submitted.
        workers: shards at a time; None for all cores of the cluster.
        prologue: called first in each process.
        report: receives one line for each shard lost with its worker or node.

    Yields:
        The number of each shard when it is finished.

    Raises:
        UserError: a shard cannot be written, was lost several times, or is not visible from this process.
    """
    as_tasks = (ClusterTask(task.records, task, task.finished) for task in tasks)
    yield from run_tasks(partial(_write, prologue), as_tasks, report, at_once=workers)


def _write(prologue: Callable[[], None], task: ShardTask) -> int:
    prologue()
    return write_shard(task)
