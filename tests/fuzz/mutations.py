"""Damage to valid inputs: pure functions of a seeded generator."""

import random
import re

_WORDS = (
    "nan inf -inf -1 0 1e309 1e-309 null true [] {} [[[[ ' \" \\ / .. ../../../x /etc/passwd é $\\x{$ *a &a <script> "
    "%s {0} !!python/object:os.system 2024-99-99 0x10 1_000 ;"
)
_BLANKS_AND_ODD = ("", " ", "\n", "\r\n", "\t", "\ufeff", "\u2028", "\x00", "\ud800", "9" * 400, "a" * 4000)
NASTY = (*_WORDS.split(), *_BLANKS_AND_ODD)
"""Words that have broken text readers."""
EXTREMES = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x01\x00\x00\x00", b"\x00\x00\x00\x80")
TOKEN = re.compile(r"[\w.+-]+|[^\w\s]")


def damaged(content: bytes, generator: random.Random) -> bytes:
    """Bytes with one to four defects: flipped bits, numbers at their extremes, cuts, copies, insertions."""
    data = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        if not data:
            break
        place, kind = generator.randrange(len(data)), generator.randrange(7)
        if kind <= 1:
            place = place if kind else min(place, generator.randrange(200))  # headers are at the start
            data[min(place, len(data) - 1)] ^= 1 << generator.randrange(8)
        elif kind == 2:
            place = min(place, generator.randrange(200))
            data[place : place + 4] = generator.choice(EXTREMES)
        elif kind == 3:
            del data[place:]
        elif kind == 4:
            del data[place : place + generator.randint(1, 400)]
        elif kind == 5:
            data[place:place] = data[place : place + generator.randint(1, 400)]
        else:
            data[place:place] = generator.randbytes(generator.randint(1, 40))
    return bytes(data)


def reworded(content: bytes, generator: random.Random) -> bytes:
    """Text with one to four of its words replaced, repeated, moved or removed; sometimes damaged as bytes too."""
    text = content.decode(errors="surrogateescape")
    for _ in range(generator.randint(1, 4)):
        tokens = list(TOKEN.finditer(text))
        if not tokens:
            break
        first, second = generator.choice(tokens), generator.choice(tokens)
        new = generator.choice(
            (
                generator.choice(NASTY),
                generator.choice(NASTY),
                second[0],
                first[0] * 2,
                first[0] + generator.choice(NASTY),
            )
        )
        text = text[: first.start()] + new + text[first.end() :]
    changed = text.encode(errors="surrogatepass")
    return damaged(changed, generator) if generator.random() < 0.15 else changed
