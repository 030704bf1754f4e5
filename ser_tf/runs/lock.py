"""One process at a time in a folder that is written."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ser_tf.errors import UserError

LOCK = ".lock"
"""File in a folder that is being written; a killed process leaves it, which hinders nobody."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder against every other command that writes into it; the system lets go when the process dies.

    Raises:
        UserError: another process is at work in it.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{folder}: another ser-tf command is at work in it; wait for it, or choose another folder"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # on Windows an open file stays, and its release removes it
            (folder / LOCK).unlink()
        lock.release()
