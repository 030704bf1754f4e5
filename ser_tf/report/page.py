"""Write a report as one self-contained HTML file, as Markdown, and its drawings as PNG and SVG."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType

from ser_tf.report.colours import THEME
from ser_tf.report.document import (
    Block,
    Bullets,
    Document,
    Figure,
    Notice,
    Panel,
    Paragraph,
    Section,
    Table,
)
from ser_tf.runs.files import write_text

PNG_DOTS_PER_INCH = 200
LONG_CELL = 28
"""Cells with more characters may wrap."""
DEEPEST_IN_CONTENTS = 2
"""Levels of sections in the table of contents."""


def write_pages(document: Document, folder: Path, footer: str) -> None:
    """Write `report.html`, `report.md`, and each drawing as PNG and SVG in `figures`.

    Args:
        document: the report.
        folder: is created if needed.
        footer: the last line.
    """
    drawings = folder / "figures"
    drawings.mkdir(parents=True, exist_ok=True)
    svgs = {panel.name: _write_drawing(panel, drawings) for panel in _panels([*document.lead, *document.sections])}
    html = fill_page(
        document.title,
        lead=(html_block(block, svgs) for block in document.lead),
        contents=_contents(document.sections),
        main=(_html_section(section, svgs, str(number)) for number, section in enumerate(document.sections, start=1)),
        footer=footer,
    )
    write_text(folder / "report.html", html)
    write_text(folder / "report.md", _markdown(document, footer))


def fill_page(
    title: str, *, lead: Iterable[str], contents: str, main: Iterable[str], footer: str, style: str = ""
) -> str:
    """A whole HTML page.

    Args:
        title: of the page, as text.
        lead: HTML before the table of contents.
        contents: the table of contents, as HTML.
        main: HTML of the sections.
        footer: the last line, as text.
        style: name of a style sheet in this package to add to `style.css`.
    """
    return Template(_resource("page.html")).substitute(
        title=escape(title),
        style=_resource("style.css") + (_resource(style) if style else ""),
        lead="\n".join(lead),
        contents=contents,
        main="\n".join(main),
        footer=escape(footer),
    )


def _resource(name: str) -> str:
    return files("ser_tf.report").joinpath(name).read_text(encoding="utf-8")


def _panels(parts: Iterable[Block | Section]) -> Iterable[Panel]:
    for part in parts:
        if isinstance(part, Figure):
            yield from part.panels
        elif isinstance(part, Section):
            yield from _panels([*part.blocks, *part.sections])


def _write_drawing(panel: Panel, folder: Path) -> str:
    """Write PNG and SVG; equal drawings give equal files.

    Returns:
        SVG to embed in the page.
    """
    png, svg = io.BytesIO(), io.StringIO()
    panel.drawing.savefig(png, format="png", dpi=PNG_DOTS_PER_INCH, metadata={"Software": None})
    panel.drawing.set_layout_engine("none")  # keep the layout that the PNG has
    panel.drawing.savefig(svg, format="svg", metadata={"Date": None, "Title": panel.alt})
    (folder / f"{panel.name}.png").write_bytes(png.getvalue())
    write_text(folder / f"{panel.name}.svg", svg.getvalue())
    return _inline(svg.getvalue(), panel)


def _inline(svg: str, panel: Panel) -> str:
    """The SVG with ids unique on the page, the page's colours and fonts, and its text alternative."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<title>.*?</title>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{panel.name}-", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 system-ui, sans-serif", svg)
    for colour, name in THEME.items():
        svg = svg.replace(colour, f"var({name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(panel.alt)}"', 1)


def _html_section(section: Section, svgs: dict[str, str], place: str) -> str:
    """A section with its subsections; `place` is its number, as in "2-1"."""
    level = 2 + place.count("-")
    inside = [html_block(block, svgs) for block in section.blocks]
    inside += [_html_section(part, svgs, f"{place}-{number}") for number, part in enumerate(section.sections, start=1)]
    content, heading = "\n".join(inside), f"<h{level}>{escape(section.title)}</h{level}>"
    if section.folded:
        return f'<details id="s{place}">\n<summary>{heading}</summary>\n{content}\n</details>'
    return f'<section id="s{place}">\n{heading}\n{content}\n</section>'


def _contents(sections: Sequence[Section], place: str = "") -> str:
    items = []
    for number, section in enumerate(sections, start=1):
        here = f"{place}{number}"
        below = ""
        if section.sections and here.count("-") + 1 < DEEPEST_IN_CONTENTS:
            below = _contents(section.sections, f"{here}-")
        items.append(f'<li><a href="#s{here}">{escape(section.title)}</a>{below}</li>')
    return "<ul>" + "".join(items) + "</ul>"


def html_block(block: Block, svgs: Mapping[str, str] = MappingProxyType({})) -> str:
    """A block as HTML; `svgs` maps the names of panels to their drawings."""
    match block:
        case Paragraph(text):
            return f"<p>{_html_text(text)}</p>"
        case Notice(text):
            return f'<p class="notice">{_html_text(text)}</p>'
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_html_text(item)}</li>" for item in items) + "</ul>"
        case Table():
            return _html_table(block)
        case Figure(caption, panels, columns):
            drawings = "\n".join(f'<div class="panel">{svgs[panel.name]}</div>' for panel in panels)
            shape = _class(["single"] if len(panels) == 1 else ["three"] if columns > 2 else [])
            return (
                f'<figure{shape}>\n<div class="panels">\n{drawings}\n</div>\n'
                f"<figcaption>{_html_text(caption)}</figcaption>\n</figure>"
            )


def _html_table(table: Table) -> str:
    numeric = [all(_is_number(row[column]) for row in table.rows) for column in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{_class(["number"] if number else [])}>{_html_text(name)}</th>'
        for name, number in zip(table.columns, numeric, strict=True)
    )
    body = "".join(
        f"<tr{_class(['muted'] if index in table.muted else [])}>"
        + "".join(
            f"<td{_class(['number'] if number else ['long'] if len(cell) > LONG_CELL else [])}>{_html_text(cell)}</td>"
            for cell, number in zip(row, numeric, strict=True)
        )
        + "</tr>"
        for index, row in enumerate(table.rows)
    )
    caption = _html_text(table.caption)
    return (
        f'<div class="table"><p>{caption}</p><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(table.caption)}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></div>'
    )


def _class(names: Sequence[str]) -> str:
    return f' class="{" ".join(names)}"' if names else ""


def _is_number(cell: str) -> bool:
    """Whether a cell is a number, with or without an interval, or a dash for no number."""
    return re.fullmatch(r"-|-?\d[\d.]*( \[-?[\d.]+, -?[\d.]+\])?", cell) is not None


def _html_text(text: str) -> str:
    """Escaped HTML: backticks become code, hyphens before numbers minus signs; no line break before a percent sign."""
    marked = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"(?<![\w.-])-(?=\d)", "\N{MINUS SIGN}", marked).replace(" %", "\N{NO-BREAK SPACE}%")


def _markdown(document: Document, footer: str) -> str:
    parts = [f"# {document.title}", *map(_markdown_block, document.lead)]
    parts += [text for section in document.sections for text in _markdown_section(section, level=2)]
    whole = "\n\n".join([*parts, footer]) + "\n"
    return whole.replace("<", "&lt;")  # names are text, never HTML


def _markdown_section(section: Section, level: int) -> list[str]:
    inside = [text for part in section.sections for text in _markdown_section(part, level + 1)]
    return [f"{'#' * level} {section.title}", *map(_markdown_block, section.blocks), *inside]


def _markdown_block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return text
        case Notice(text):
            return f"> {text}"
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(caption, columns, rows):
            lines = [columns, ["---"] * len(columns), *rows]
            return caption + "\n\n" + "\n".join(f"| {' | '.join(map(_markdown_cell, line))} |" for line in lines)
        case Figure(caption, panels):
            images = "\n".join(f"![{_alt(panel)}](figures/{panel.name}.png)" for panel in panels)
            return f"{images}\n\n{caption}"


def _markdown_cell(cell: str) -> str:
    return cell.replace("|", "\\|")


def _alt(panel: Panel) -> str:
    return panel.alt.replace("[", "(").replace("]", ")")
