"""Ctrl-C: it raises KeyboardInterrupt as usual, and is remembered in case a library swallows the exception."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

STATUS = 130
"""Exit status after Ctrl-C, by the shell's convention."""
_SECONDS_TO_RETURN = 0.05
_heard = False
_again: threading.Timer | None = None


def listen() -> None:
    """Remember Ctrl-C from now on, unless the shell turned it off, as for background commands."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _remember)


def heard() -> bool:
    """Whether Ctrl-C was pressed."""
    return _heard


def end(goes_on: str = "") -> NoReturn:
    """End the command with a message that it was interrupted.

    Args:
        goes_on: where it continues when started again; empty if it starts from the beginning.
    """
    remedy = f"; started again, it goes on from {goes_on}" if goes_on else ""
    print(f"ser-tf: interrupted{remedy}", file=sys.stderr)
    sys.exit(STATUS)


def _remember(number: int, frame: FrameType | None) -> None:
    global _heard, _again
    _heard = True
    if _again is not None:
        _again.cancel()
    while frame is not None:
        if frame.f_code.co_name.startswith("vio_"):  # a callback from libsndfile, which cannot pass on exceptions
            _again = threading.Timer(_SECONDS_TO_RETURN, os.kill, (os.getpid(), number))
            _again.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt
