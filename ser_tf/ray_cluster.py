"""Tasks on a Ray cluster (extra `[ray]`), which may lose nodes.

All nodes share a file system and see the same paths. A task leaves its result there, and whoever takes it up after a
lost node goes on from what it finds.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ser_tf.errors import UserError, import_extra

MOST_ATTEMPTS = 5
"""Losing one task this often ends the command."""
TASKS_PER_CORE = 2
"""Tasks submitted per core, so that no core waits for this process."""


class ClusterTask(NamedTuple):
    """A task.

    Attributes:
        place: file or folder of its result.
        argument: what the function gets.
        finished: whether the result stands.
    """

    place: Path
    argument: Any
    finished: Callable[[], bool]


def run_tasks(
    function: Callable[[Any], Any],
    tasks: Iterator[ClusterTask],
    report: Callable[[str], None],
    *,
    at_once: int | None = None,
    trains: bool = False,
) -> Iterator[Any]:
    """Run tasks on the cluster that RAY_ADDRESS names or that runs on this machine; if there is none, start one.

    Args:
        function: does one task; importable on every node.
        tasks: each is taken only when it is submitted.
        report: receives one line for each task lost with its worker or node.
        at_once: number of tasks; None for all that the cluster can take.
        trains: a task has a GPU, or all cores of the smallest node if there are none, and a process of its own;
            otherwise one core.

    Yields:
        What the function returned for each task, as they finish.

    Raises:
        UserError: a task fails, was lost several times, or its result is not visible from this process.
    """
    import_extra("ray", "engine ray: needs Ray on every node", "ray")
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        ray.init(log_to_driver=False, logging_level="warning")
    at_work: dict[Any, tuple[ClusterTask, int]] = {}
    try:
        needs = _resources_of_a_training(ray.nodes()) | {"max_calls": 1} if trains else {"num_cpus": 1}
        remote = ray.remote(max_retries=0, **needs)(_in_folder)

        def submit(task: ClusterTask, attempt: int) -> None:
            at_work[remote.remote(Path.cwd(), function, task.argument)] = task, attempt

        while True:
            most = at_once or TASKS_PER_CORE * max(1, int(ray.cluster_resources().get("CPU", 1)))
            while len(at_work) < most and (task := next(tasks, None)) is not None:
                submit(task, attempt=1)
            if not at_work:
                return
            (done,), _ = ray.wait(list(at_work))
            task, attempt = at_work.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                reason = type(error).__name__
                if attempt == MOST_ATTEMPTS:
                    raise UserError(
                        f"{task.place.name}: lost {MOST_ATTEMPTS} times with its worker ({reason}); see the logs of "
                        "Ray, and check the memory of its nodes"
                    ) from error
                report(f"{task.place.name} was lost with its worker ({reason}); another takes it up")
                submit(task, attempt + 1)
                continue
            if not task.finished():
                raise UserError(
                    f"{task.place}: written by a node of the cluster but not visible here; choose a folder on a file "
                    "system that all nodes share"
                )
            yield result
    finally:
        if started_here:
            ray.shutdown()


def _in_folder(folder: Path, function: Callable[[Any], Any], argument: Any) -> Any:
    os.chdir(folder)  # paths may be relative to it
    return function(argument)


def _resources_of_a_training(nodes: list[dict[str, Any]]) -> dict[str, int]:
    """Each training computes as on a machine of its own: the same number of threads gives the same numbers."""
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    if any(node.get("GPU", 0) >= 1 for node in resources):
        return {"num_cpus": 1, "num_gpus": 1}
    return {"num_cpus": min((int(node["CPU"]) for node in resources if node.get("CPU", 0) >= 1), default=1)}
