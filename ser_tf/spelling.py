"""When two spellings name one speaker."""

import re
import unicodedata


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
