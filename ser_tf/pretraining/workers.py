"""Writes shards on the cores of this machine, in processes that may die."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ser_tf.errors import UserError
from ser_tf.pretraining.shard_writer import UNFINISHED, ShardTask, write_shard

MOST_ATTEMPTS = 3
"""A shard over which this many workers die ends the command."""


def run_on_cores(
    tasks: Iterator[ShardTask], workers: int, prologue: Callable[[], None], report: Callable[[str], None]
) -> Iterator[int]:
    """Write shards in processes.

    Args:
        tasks: the shards; each is taken only when a worker is free.
        workers: number of processes.
        prologue: called first in each process.
        report: receives one line for each worker that died.

    Yields:
        The number of each shard when it is finished.

    Raises:
        UserError: a shard cannot be written, or several workers died over it.
    """
    started = 0
    team: dict[Connection, _Worker] = {}

    def work_on(task: ShardTask, attempt: int) -> None:
        nonlocal started
        started += 1
        worker = _Worker(started, prologue)
        team[worker.connection] = worker
        worker.take(task, attempt)

    try:
        for task in tasks:
            work_on(task, attempt=1)
            if len(team) == workers:
                break
        while team:
            for connection in wait(list(team)):
                assert isinstance(connection, Connection)
                worker = team[connection]
                try:
                    message = connection.recv()
                except (EOFError, ConnectionResetError):
                    del team[connection]
                    end = worker.stop()
                    if worker.attempt == MOST_ATTEMPTS:
                        raise UserError(
                            f"{worker.task.records.name}: {MOST_ATTEMPTS} workers died over it, the last one at "
                            f"{worker.path} ({end}); move that recording to another folder, or lower --workers if "
                            "memory is short"
                        ) from None
                    report(
                        f"worker {worker.number} died ({end}) at {worker.path}; {worker.task.records.name} is redone"
                    )
                    work_on(worker.task, worker.attempt + 1)
                    continue
                if isinstance(message, BaseException):
                    raise message
                if isinstance(message, str):
                    worker.path = message
                    continue
                yield message
                following = next(tasks, None)
                if following is not None:
                    worker.take(following, attempt=1)
                else:
                    del team[connection]
                    worker.stop()
    finally:
        for worker in team.values():
            worker.connection.close()  # tells all of them before waiting for any
        for worker in team.values():
            worker.stop()


class _Worker:
    """A process, and the shard and recording it is working on."""

    def __init__(self, number: int, prologue: Callable[[], None]) -> None:
        self.number = number
        self.task: ShardTask
        self.attempt = 0
        self.path = "its start"
        spawn = multiprocessing.get_context("spawn")  # TensorFlow's threads do not survive a fork
        self.connection, other_end = spawn.Pipe()
        self.process: BaseProcess = spawn.Process(target=_work, args=(other_end, prologue), daemon=True)
        resource_tracker.ensure_running()  # now: its start would unblock the signal below
        with _ctrl_c_blocked():  # inherited: only the parent handles it
            self.process.start()
        other_end.close()  # so that the connection ends when the process dies

    def take(self, task: ShardTask, attempt: int) -> None:
        self.task, self.attempt = task, attempt
        with suppress(BrokenPipeError):  # it is dead, which `wait` reports
            self.connection.send(task)

    def stop(self) -> str:
        """End the process and remove its unfinished files; return how it ended."""
        self.connection.close()
        self.process.join(timeout=1)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        for unfinished in self.task.out.glob(f"{UNFINISHED}*-{self.process.pid}-*"):
            unfinished.unlink(missing_ok=True)
        code = self.process.exitcode or 0
        return f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit status {code}"


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, prologue: Callable[[], None]) -> None:
    """Write shards until the other end closes."""
    try:
        prologue()
        while True:
            task = connection.recv()
            try:
                connection.send(write_shard(task, connection.send))
            except (BrokenPipeError, EOFError):
                raise
            except Exception as error:
                connection.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone; the next call redoes the shard
