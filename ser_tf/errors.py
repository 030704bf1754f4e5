"""The exception for everything a user can cause, and the text of its one-line message."""

import os
import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

LONGEST_QUOTE = 300
"""Characters of a value quoted in a message."""
LONGEST_LINE = 1200
BACKENDS = ("tensorflow", "jax")


class UserError(Exception):
    """A mistake that the user can correct.

    The message is one line: it names the file or argument, the expected and received value, and the remedy. The command
    line prints it without a traceback and exits with status 1. Quoted text cannot break the line: unprintable
    characters are escaped, and a long message is shortened in the middle.
    """

    def __init__(self, message: object) -> None:
        super().__init__(shortened(printable(str(message)), LONGEST_LINE))


def printable(text: str | os.PathLike[str]) -> str:
    """A text or file name on one line, in printable characters.

    A line end becomes "\\n"; a byte of a file name that is not UTF-8 becomes, for example, "\\xe9".
    """
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in os.fspath(text))


def encodable(text: str) -> str:
    """The text with line ends; bytes of file names that are not UTF-8 are escaped as in `printable`."""
    return re.sub("[\ud800-\udfff]", lambda letter: _escaped(letter[0]), text)


def shortened(text: str, longest: int = LONGEST_QUOTE) -> str:
    """The text, or its beginning and end with dots in between."""
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def quoted(value: Any) -> str:
    """A value in Python's notation, for a message."""
    return shortened(repr(value))


def import_extra(module: str, need: str, extra: str) -> Any:
    """Import a package of an extra.

    Args:
        module: its name.
        need: beginning of the error message: which feature needs which package.
        extra: the extra that installs it.

    Raises:
        UserError: it is not installed; the message names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"{need}; install the extra: pip install -e '.[{extra}]'") from error


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def require_backend() -> None:
    """Refuse an unsupported or missing Keras backend before Keras imports it.

    Raises:
        UserError: `KERAS_BACKEND` names such a backend.
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
    if "\udc80" <= letter <= "\udcff":  # a byte in the encoding of `os.fsdecode`
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()
