"""Spans that a pattern matches in texts: positions from a regex engine that gives none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import polars as pl

__all__ = ["SPANS", "Check", "Span", "find_all", "matches"]

SPANS: Final = pl.Schema(
    {"row": pl.UInt32, "start": pl.UInt32, "end": pl.UInt32, "kind": pl.String}
)
"""A span of text number ``row``, in characters; ``end`` is exclusive."""

Span = tuple[int, int]
Check = Callable[[str, int, int], Span | None]
"""What of a match in a text, given by its start and end, is a span; None if nothing is."""

_OPEN, _CLOSE = "\ue0f0", "\ue0f1"  # of private use


def find_all(
    texts: pl.Series, patterns: Mapping[str, tuple[str, Check]], kinds: Iterable[str]
) -> pl.DataFrame:
    """Spans of ``kinds`` in each text, in order; of two that overlap, the kind first in the map."""
    order = {kind: number for number, kind in enumerate(patterns)}
    found = [
        (row, order[kind], *span)
        for kind in kinds
        for row, text, start, end in matches(texts, patterns[kind][0])
        if (span := patterns[kind][1](text, start, end)) is not None
    ]
    names = list(patterns)
    kept: list[tuple[int, int, int, str]] = []
    row_before, taken = -1, list[Span]()
    for row, number, start, end in sorted(found):
        if row != row_before:
            row_before, taken = row, []
        if all(end <= other or start >= until for other, until in taken):
            kept.append((row, start, end, names[number]))
            taken.append((start, end))
    return pl.DataFrame(sorted(kept), schema=SPANS, orient="row")


def matches(texts: pl.Series, pattern: str) -> Iterator[tuple[int, str, int, int]]:
    r"""Row, text, start and end of each match, in time linear in the text.

    The engine puts a mark before and after each match, and the marks are counted.
    """
    pattern = _in_ascii(pattern)
    frame = texts.to_frame("text").with_row_index("row")
    frame = frame.filter(pl.col("text").str.contains(pattern))
    clean = pl.col("text").str.replace_all(f"[{_OPEN}{_CLOSE}]", " ")
    marked = clean.str.replace_all(f"({pattern})", f"{_OPEN}${{1}}{_CLOSE}").str.split(_OPEN)
    for row, text, pieces in frame.select("row", "text", pieces=marked).iter_rows():
        at = len(pieces[0])
        for piece in pieces[1:]:
            match, _, rest = piece.partition(_CLOSE)
            yield row, text, at, at + len(match)
            at += len(match) + len(rest)


def _in_ascii(pattern: str) -> str:
    r"""The pattern with ``\b``, ``\d`` and ``\w`` of ASCII: thirty times as fast on prose.

    >>> _in_ascii(r"\b[\w.]+\d")
    '(?-u:\\b)[0-9A-Za-z_.]+[0-9]'
    """
    parts, within = [], False
    for part in re.findall(r"\\.|[\[\]]|[^\\\[\]]+", pattern):
        ascii_class = {r"\d": "0-9", r"\w": "0-9A-Za-z_"}.get(part)
        if ascii_class:
            parts.append(ascii_class if within else f"[{ascii_class}]")
        else:
            within = part == "[" or (within and part != "]")
            parts.append(r"(?-u:\b)" if part == r"\b" else part)
    return "".join(parts)
