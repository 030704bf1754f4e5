"""A report as data: sections of paragraphs, lists, tables and figures.

Text is plain; text between backticks is code.
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
    """Sentences in a frame that stands out."""

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
    """Indices of rows that are shown in grey, such as the paper's."""


@dataclass(frozen=True)
class Panel:
    """One drawing of a figure."""

    name: str
    """Stem of its files, unique in the report; characters that are unsafe in a file name are replaced."""
    alt: str
    """Text alternative, for screen readers."""
    drawing: "Drawing"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _file_name(self.name))


@dataclass(frozen=True)
class Figure:
    """Drawings side by side as far as the page is wide enough."""

    caption: str
    """Says what to look for."""
    panels: Sequence[Panel]
    columns: int = 2
    """Most panels side by side, 1 to 3."""


Block = Paragraph | Notice | Bullets | Table | Figure


@dataclass(frozen=True)
class Section:
    """A heading, its blocks, then its subsections."""

    title: str
    blocks: Sequence[Block]
    sections: "Sequence[Section]" = field(default=())
    folded: bool = False
    """Whether a browser shows the heading only, until it is opened."""


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    lead: Sequence[Block]
    """Stands before the contents: what was measured, and the main result."""
    sections: Sequence[Section]


def _file_name(text: str) -> str:
    """The text in safe characters; a changed text gets a hash, so that different texts have different names."""
    safe = re.sub(r"[^A-Za-z0-9_=.-]+|^\.+", "-", text)[:LONGEST_NAME]
    if safe == text:
        return text
    return f"{safe}-{hashlib.blake2b(text.encode(errors='replace'), digest_size=4).hexdigest()}"
