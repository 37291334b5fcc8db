"""Markdown: escaped texts and tables of users' names and values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["escaped", "table"]

_BREAKS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MARKS: Final = re.compile(r"[\\`*\[\]|~$!^#]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "://": ":&#47;/", "@": "&#64;"}
_LEADING: Final = re.compile(r"^([-+=]|\d+[.)])")


def escaped(text: object) -> str:
    r"""``text`` on one line, without a character that Markdown or HTML reads as markup.

    >>> escaped("<b>*x*</b> my_file|2.jsonl\n# y")
    '&lt;b&gt;\\*x\\*&lt;/b&gt; my_file\\|2.jsonl \\# y'
    """
    line = _MARKS.sub(r"\\\g<0>", _BREAKS.sub(" ", str(text)).strip())
    for mark, entity in _ENTITIES.items():
        line = line.replace(mark, entity)
    return _LEADING.sub(
        lambda found: f"\\{found[0]}" if len(found[0]) == 1 else f"{found[0][:-1]}\\{found[0][-1]}",
        line,
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of escaped cells; numbers have thousands separators."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else escaped(value)
