"""A report as data, before it becomes a page: sections of paragraphs, lists, tables and figures.

Text is plain; what stands between two backticks is code.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


LONGEST_NAME = 120
"""Characters of a file name, without its hash and ending."""


@dataclass(frozen=True)
class Paragraph:
    """Some sentences."""

    text: str


@dataclass(frozen=True)
class Notice:
    """Sentences that must not be overlooked."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of text under a caption."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    muted: Sequence[int] = ()
    """Rows that are not ours, such as the paper's."""


@dataclass(frozen=True)
class Panel:
    """One drawing of a figure."""

    name: str
    """Of its files, and unique in the report; what is no safe part of a file name is replaced."""
    alt: str
    """What it shows, for who cannot see it."""
    drawing: "Drawing"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _file_name(self.name))


@dataclass(frozen=True)
class Figure:
    """Drawings side by side where there is room, below each other where there is not."""

    caption: str
    """Says what to see."""
    panels: Sequence[Panel]
    columns: int = 2
    """Side by side at most, up to three."""


Block = Paragraph | Notice | Bullets | Table | Figure


@dataclass(frozen=True)
class Section:
    """A heading with what belongs to it."""

    title: str
    blocks: Sequence[Block]
    sections: "Sequence[Section]" = field(default=())


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    lead: Sequence[Block]
    """What was measured, on what, and what came out."""
    sections: Sequence[Section]


def _file_name(text: str) -> str:
    """The text in safe characters; where that changes it, a hash keeps it apart from others."""
    safe = re.sub(r"[^A-Za-z0-9_=.-]+|^\.+", "-", text)[:LONGEST_NAME]
    if safe == text:
        return text
    return f"{safe}-{hashlib.blake2b(text.encode(errors='replace'), digest_size=4).hexdigest()}"
