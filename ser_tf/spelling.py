"""Decides whether two spellings name one speaker."""

import re
import unicodedata
from collections.abc import Iterable


def voice(speaker: str) -> str:
    """A normal form that all spellings of a speaker's name share.

    Case, leading zeros, white space, Unicode composition, wide letters and invisible characters make no difference.

    Example:
        >>> voice("table:Speaker  01") == voice("table:speaker 1")
        True
    """
    for _ in range(2):  # folding may produce letters that need composing again
        speaker = unicodedata.normalize("NFKC", speaker).casefold()
    visible = "".join(letter for letter in speaker if unicodedata.category(letter) != "Cf")
    return re.sub(r"(?<!\d)0+(?=\d)", "", " ".join(visible.replace(":", ": ", 1).split()))


def spelt_twice(speakers: Iterable[str]) -> tuple[str, str] | None:
    """The first two names that differ but have the same `voice`; None if there are none.

    Example:
        >>> spelt_twice(["voices:anna", "voices:bert", "voices:Anna"])
        ('voices:anna', 'voices:Anna')
    """
    first: dict[str, str] = {}
    return next(((before, name) for name in speakers if (before := first.setdefault(voice(name), name)) != name), None)
