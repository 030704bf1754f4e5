"""What a user can cause: one exception, one clear line."""

import os
import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

LONGEST_QUOTE = 300
"""Characters of a value that a message repeats."""
LONGEST_LINE = 1200
BACKENDS = ("tensorflow", "jax")


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line that names the file or the argument, says what was expected and what came, and gives the
    remedy. The command line prints it alone, without a traceback, and exits with status 1. Whatever the message quotes
    cannot break the line: line ends and other characters without a print are escaped, and a long line loses its middle.
    """

    def __init__(self, message: object) -> None:
        super().__init__(shortened(printable(str(message)), LONGEST_LINE))


def printable(text: str | os.PathLike[str]) -> str:
    """A text, or a file's name, on one line, in characters that UTF-8 and every terminal take.

    A line end becomes "\\n", and a byte of a file name that is no UTF-8 becomes as "\\xe9".
    """
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in os.fspath(text))


def encodable(text: str) -> str:
    """The text with its line ends; bytes of file names that are no UTF-8 are escaped as in `printable`."""
    return re.sub("[\ud800-\udfff]", lambda letter: _escaped(letter[0]), text)


def shortened(text: str, longest: int = LONGEST_QUOTE) -> str:
    """The text, or its beginning and end with dots between."""
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def quoted(value: Any) -> str:
    """A value as Python writes it, for a message."""
    return shortened(repr(value))


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


def require_backend() -> None:
    """Refuse a backend of Keras that is not ours, or not installed, before Keras looks for it.

    Raises:
        UserError: `KERAS_BACKEND` names such a one.
    """
    chosen = os.environ.get("KERAS_BACKEND") or BACKENDS[0]
    if chosen not in BACKENDS:
        raise UserError(
            f"KERAS_BACKEND: expected {' or '.join(BACKENDS)}. Received: {chosen}; unset this environment variable, or "
            "choose one of these"
        )
    if find_spec(chosen) is None:
        raise UserError(f"KERAS_BACKEND={chosen} needs {chosen}; install it, or unset this environment variable")


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte, as `os.fsdecode` hides it
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()
