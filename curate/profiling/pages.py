"""A profile as text for a terminal, as HTML for a notebook or report, and as a page of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any, Final

from siftune.curate.core.redact import hidden
from siftune.curate.core.terminal import printable
from siftune.curate.files.output_marker import generator_tag
from siftune.curate.profiling.page_parts import Listing, Section
from siftune.curate.profiling.sections import headline, sections_of

__all__ = ["as_html", "as_page", "as_text"]

_WIDE: Final = 80  # characters of a cell of text in a terminal
_LINE: Final = 110
_SOURCES: Final = 5  # names that a heading has
_STYLE: Final = """
.profile { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; }
.profile h3 { margin: 1.8rem 0 .3rem; border-bottom: 1px solid #8884; }
.profile p { margin: .25rem 0; }
.profile table { border-collapse: collapse; width: 100%; margin: .5rem 0; font-size: .92em; }
.profile th, .profile td { text-align: left; padding: .2rem .6rem; vertical-align: top;
  border-bottom: 1px solid #8883; overflow-wrap: anywhere; white-space: pre-line; }
.profile table.narrow { width: auto; min-width: 26rem; }
.profile table:not(.narrow) td:nth-child(2) { min-width: 9rem; }
.profile th { overflow-wrap: normal; }
.profile th.n, .profile td.n { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
"""
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{generator}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Siftune</title>
<style>:root {{ color-scheme: light dark; }} body {{ margin: 2rem auto; max-width: 1080px;
padding: 0 1rem; }}</style>
</head>
<body>
{body}
</body>
</html>
"""


def as_text(facts: Mapping[str, Any]) -> str:
    """The sections as indented lines and tables; control characters of the data are escaped."""
    lines: list[str] = []
    for one in _kinds(facts):
        lines += [*([""] if lines else []), f"{_sources(one)}: {headline(one)}"]
        for section in sections_of(one):
            lines += ["", section.title, *_section_lines(section)]
    return printable(hidden("\n".join(lines)))


def _kinds(facts: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The figures of each kind of rows."""
    return facts.get("kinds") or [facts]


def _sources(facts: Mapping[str, Any]) -> str:
    data = facts["data"]
    more = f" and {len(data) - _SOURCES} more" if len(data) > _SOURCES else ""
    return ", ".join(data[:_SOURCES]) + more


def _section_lines(section: Section) -> Iterator[str]:
    for sentence in section.sentences:
        whole = " ".join(sentence.split()).replace(" %", "\N{NO-BREAK SPACE}%")
        for line in wrap(whole, _LINE, initial_indent="  ", subsequent_indent="    "):
            yield line.replace("\N{NO-BREAK SPACE}", " ")
    for listing in section.listings:
        yield from _table_lines(listing)


def _table_lines(listing: Listing) -> Iterator[str]:
    """A table in columns; of a cell of several lines each is a line of its own."""
    rows = [listing.columns, *listing.rows]
    split = [[_cell_lines(cell) for cell in row] for row in rows]
    widths = [max(len(line) for row in split for line in row[at]) for at in range(len(rows[0]))]
    first_number = len(widths) - listing.numbers
    for row in split:
        for at in range(max(map(len, row))):
            cells = [lines[at] if at < len(lines) else "" for lines in row]
            yield (
                "    "
                + "  ".join(
                    cell.rjust(width) if place >= first_number else cell.ljust(width)
                    for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
                ).rstrip()
            )


def _cell_lines(cell: str) -> list[str]:
    lines = (" ".join(line.split()) for line in cell.split("\n"))
    return [line if len(line) <= _WIDE else f"{line[: _WIDE - 1]}…" for line in lines]


def as_html(facts: Mapping[str, Any]) -> str:
    """The sections as an element; text of the data is escaped, and there is no script."""
    body = "".join(
        f"<h2>{_escaped(_sources(one))}</h2><p>{escape(headline(one))}</p>"
        + "".join(map(_section_html, sections_of(one)))
        for one in _kinds(facts)
    )
    return f'<div class="profile"><style>{_STYLE}</style>{body}</div>'


def _section_html(section: Section) -> str:
    sentences = "".join(f"<p>{_escaped(sentence)}</p>" for sentence in section.sentences)
    tables = "".join(map(_table_html, section.listings))
    return f"<h3>{_escaped(section.title)}</h3>{sentences}{tables}"


def _table_html(listing: Listing) -> str:
    first_number = len(listing.columns) - listing.numbers

    def cell(tag: str, place: int, text: str, style: str = "") -> str:
        number = ' class="n"' if place >= first_number else ""
        return f"<{tag}{number}{style}>{_escaped(text)}</{tag}>"

    most = max([*listing.bars, 0.0]) or 1.0
    head = "".join(cell("th", at, name) for at, name in enumerate(listing.columns))
    lines = []
    for number, row in enumerate(listing.rows):
        style = _bar(listing.bars[number] / most) if listing.bars else ""
        last = len(row) - 1
        lines.append(
            "".join(cell("td", at, x, style if at == last else "") for at, x in enumerate(row))
        )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    narrow = ' class="narrow"' if len(listing.columns) == 2 else ""
    return f"<table{narrow}><tr>{head}</tr>{body}</table>"


def _bar(share: float) -> str:
    """A bar behind a cell, from its right; the longest is that of the commonest row."""
    end = f"{100 * share:.1f}%"
    return f' style="background: linear-gradient(to left, #2f6f4f40 {end}, transparent {end})"'


def _escaped(text: str) -> str:
    return escape(printable(hidden(text)))


def as_page(facts: Mapping[str, Any], command: str) -> str:
    """A page that works offline, marked as written by ``command``."""
    title = _escaped(_sources(facts))
    return _PAGE.format(generator=generator_tag(command), title=title, body=as_html(facts))
