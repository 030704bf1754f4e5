"""What a user can cause: one exception, one clear line."""

import os
import re
from importlib import import_module
from typing import Any


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line that names the file or the argument, says what was expected and what came, and gives the
    remedy. The command line prints it alone, without a traceback, and exits with status 1.
    """

    def __init__(self, message: object) -> None:
        super().__init__(printable(str(message)))


def printable(name: str | os.PathLike[str]) -> str:
    r"""A file's name as text that can be printed and written as UTF-8; other bytes in it become \xff and the like."""
    escaped = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", os.fspath(name))
    return escaped.encode(errors="backslashreplace").decode()


def import_extra(module: str, need: str, extra: str) -> Any:
    """Import a package that not everybody needs.

    Args:
        module: its name.
        need: what needs it, and how it is called, for the message.
        extra: the extra that installs it.

    Raises:
        UserError: it is not there; the line names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"{need}; install the extra: pip install -e '.[{extra}]'") from error
