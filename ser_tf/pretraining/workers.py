"""Shards on the cores of this machine: processes that take one shard after another, and may die."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ser_tf.errors import UserError
from ser_tf.pretraining.shard_writer import UNFINISHED, ShardTask, write_shard

MOST_ATTEMPTS = 3
"""A shard that ends as many workers ends the command."""


def run_on_cores(
    tasks: Iterator[ShardTask], workers: int, prologue: Callable[[], None], report: Callable[[str], None]
) -> Iterator[int]:
    """Write shards in processes.

    Args:
        tasks: the shards; no more of them are taken than are worked on.
        workers: how many processes.
        prologue: what each process does first.
        report: takes one line about a worker that died.

    Yields:
        The numbers of the shards, as they are finished.

    Raises:
        UserError: a shard cannot be written, or ended several workers.
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
                            f"{worker.path} ({end}); move that recording out of the way, or give fewer --workers if "
                            "the memory is short"
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
            worker.connection.close()  # all are told before one is waited for
        for worker in team.values():
            worker.stop()


class _Worker:
    """A process, and what it is at."""

    def __init__(self, number: int, prologue: Callable[[], None]) -> None:
        self.number = number
        self.task: ShardTask
        self.attempt = 0
        self.path = "its start"
        spawn = multiprocessing.get_context("spawn")  # TensorFlow's threads do not survive a fork
        self.connection, other_end = spawn.Pipe()
        self.process: BaseProcess = spawn.Process(target=_work, args=(other_end, prologue), daemon=True)
        resource_tracker.ensure_running()  # not later: its own start would let the signal through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is for the parent alone
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        other_end.close()  # so that the death of the process ends the connection

    def take(self, task: ShardTask, attempt: int) -> None:
        self.task, self.attempt = task, attempt
        with suppress(BrokenPipeError):  # it is dead, and `wait` will say so
            self.connection.send(task)

    def stop(self) -> str:
        """End the process, remove what it left, and say how it had ended by itself."""
        self.connection.close()
        self.process.join(timeout=1)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        for unfinished in self.task.out.glob(f"{UNFINISHED}*-{self.process.pid}-*"):
            unfinished.unlink(missing_ok=True)
        code = self.process.exitcode or 0
        return f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit status {code}"


def _work(connection: Connection, prologue: Callable[[], None]) -> None:
    """Take shards until the other end closes."""
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
        pass  # the parent is gone: the shard is redone by whoever starts again
