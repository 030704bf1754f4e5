"""Writes shards on a Ray cluster (extra `[ray]`): one task and one core per shard.

All nodes share a file system, and see corpus and shards under the same paths.
"""

from collections.abc import Callable, Iterator
from typing import Any

from ser_tf.errors import UserError, import_extra
from ser_tf.pretraining.shard_writer import ShardTask, write_shard

MOST_ATTEMPTS = 5
"""Losing one shard this often ends the command."""
TASKS_PER_CORE = 2
"""Tasks submitted per core, so that no core waits for this process."""


def require_ray() -> None:
    """Check that Ray is installed.

    Raises:
        UserError: it is not; the message names the extra.
    """
    import_extra("ray", "engine ray: needs Ray on every node", "ray")


def run_on_ray(
    tasks: Iterator[ShardTask], workers: int | None, prologue: Callable[[], None], report: Callable[[str], None]
) -> Iterator[int]:
    """Write shards on the cluster that RAY_ADDRESS names or that runs on this machine; if there is none, start one.

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
    require_ray()
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        ray.init(log_to_driver=False, logging_level="warning")
    at_work: dict[Any, tuple[ShardTask, int]] = {}
    try:
        remote = ray.remote(num_cpus=1, max_retries=0)(_write)

        def submit(task: ShardTask, attempt: int) -> None:
            at_work[remote.remote(task, prologue)] = task, attempt

        while True:
            most = workers or TASKS_PER_CORE * max(1, int(ray.cluster_resources().get("CPU", 1)))
            while len(at_work) < most and (task := next(tasks, None)) is not None:
                submit(task, attempt=1)
            if not at_work:
                return
            (done,), _ = ray.wait(list(at_work))
            task, attempt = at_work.pop(done)
            try:
                number = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                reason = type(error).__name__
                if attempt == MOST_ATTEMPTS:
                    raise UserError(
                        f"{task.records.name}: lost {MOST_ATTEMPTS} times with its worker ({reason}); see the logs of "
                        "Ray, and check the memory of its nodes"
                    ) from error
                report(f"{task.records.name} was lost with its worker ({reason}); it is redone")
                submit(task, attempt + 1)
                continue
            if not task.finished():
                raise UserError(
                    f"{task.records}: written by a node of the cluster but not visible here; choose an --out on a "
                    "file system that all nodes share"
                )
            yield number
    finally:
        if started_here:
            ray.shutdown()


def _write(task: ShardTask, prologue: Callable[[], None]) -> int:
    prologue()
    return write_shard(task)
