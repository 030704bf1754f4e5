"""A bounded queue before a few worker threads."""

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ser_tf.server.limits import Limits


class QueueFull(Exception):
    """There is no place, or no memory, for another request now."""


class QueuePlace:
    """The place of one request, and the memory that it holds."""

    def __init__(self, queue: "BoundedQueue") -> None:
        self._queue = queue
        self._size = 0

    def hold(self, size: int) -> None:
        """Say how many bytes the request holds from now on.

        Raises:
            QueueFull: all requests together would hold too many.
        """
        self._queue.change_held(size - self._size)
        self._size = size


class BoundedQueue:
    """At most `limits.places` requests at once. Their steps run in worker threads, first come, first served.

    A long recording goes to the end of the line after each utterance, so that short ones do not wait for all of it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken = 0
        self._held = 0
        self._workers = ThreadPoolExecutor(min(limits.workers, os.cpu_count() or 1), "recognise")

    @contextmanager
    def place(self) -> Iterator[QueuePlace]:
        """Take a place until the request is answered.

        Raises:
            QueueFull: all are taken.
        """
        if self._taken >= self._limits.places:
            raise QueueFull
        self._taken += 1
        place = QueuePlace(self)
        try:
            yield place
        finally:
            place.hold(0)
            self._taken -= 1

    def change_held(self, change: int) -> None:
        """Add to the bytes that all requests hold.

        Raises:
            QueueFull: they would be too many.
        """
        if change > 0 and self._held + change > self._limits.held_bytes:
            raise QueueFull
        self._held += change

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the function in a worker thread; where its request is cancelled before its turn, it is not called."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self._workers.shutdown(cancel_futures=True)
