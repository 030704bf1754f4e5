"""When two spellings name one speaker."""

import re
import unicodedata
from collections.abc import Iterable


def voice(speaker: str) -> str:
    """What two spellings of one speaker's name have in common: they may differ in case, leading zeros and white space,
    and in how Unicode writes the same letters, wide ones and invisible ones.

    Example:
        >>> voice("table:Speaker  01") == voice("table:speaker 1")
        True
    """
    for _ in range(2):  # folding may leave letters that are composed anew
        speaker = unicodedata.normalize("NFKC", speaker).casefold()
    visible = "".join(letter for letter in speaker if unicodedata.category(letter) != "Cf")
    return re.sub(r"(?<!\d)0+(?=\d)", "", " ".join(visible.replace(":", ": ", 1).split()))


def spelt_twice(speakers: Iterable[str]) -> tuple[str, str] | None:
    """Two of these different names that `voice` takes for one speaker; None where there are none.

    Example:
        >>> spelt_twice(["voices:anna", "voices:bert", "voices:Anna"])
        ('voices:anna', 'voices:Anna')
    """
    first: dict[str, str] = {}
    return next(((before, name) for name in speakers if (before := first.setdefault(voice(name), name)) != name), None)
