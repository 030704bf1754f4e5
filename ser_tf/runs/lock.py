"""One process at a time in a folder that is written."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ser_tf.errors import UserError


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder against every other command that writes into it; the system lets go when the process dies.

    Raises:
        UserError: another process is at work in it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another ser-tf command is at work in it; wait for it, or choose another folder"
            ) from error
        yield
    finally:
        os.close(handle)
