"""Files that stand whole or not at all."""

import errno
import json
import os
from pathlib import Path
from typing import Any

from ser_tf.errors import encodable

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically. What UTF-8 does not have is escaped."""
    write_bytes(path, encodable(text).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: it stands whole or not at all."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def disk_error(error: Exception, place: Path) -> OSError | None:
    """What the operating system said where TensorFlow could not write; None of another error."""
    numbers = (number for number in _DISK if os.strerror(number) in str(error))
    return next((OSError(number, os.strerror(number), str(place)) for number in numbers), None)
