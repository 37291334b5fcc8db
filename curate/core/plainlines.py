"""Blocks of JSON lines to columns: plain lines without a Python value each, odd ones told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from curate.core import jsonlines
from curate.core.blocks import Block
from curate.core.canonical import digests
from curate.core.errors import BadRow
from curate.core.jsonlines import parse, too_long
from curate.core.jsonscan import (
    BLANK,
    BOTH,
    FRAGMENT,
    NUMBER,
    ODD,
    PLAIN,
    TEXT,
    TURNS,
    UNUSED,
    Scanned,
    keys_of,
    scan,
)
from curate.core.jsontext import dump
from curate.core.jsontokens import DIGITS, LIST, REAL, STRING
from curate.core.layout import Layout, Said
from curate.core.rows import arrow_schema
from curate.core.schema import TURN, Kind
from curate.core.spans import gather, numbered

__all__ = ["Plain", "plain_rows"]

_COMPAT: Final = pl.CompatLevel.oldest()
_Mask: TypeAlias = npt.NDArray[np.bool_]
_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plain:
    """The rows of a block's plain lines, and its odd lines as they are, or why they are not taken.

    ``lines`` has the line numbers of ``table``, ``sizes`` the bytes of each row.
    """

    table: pa.Table
    lines: _Ints
    sizes: _Ints
    odd: list[tuple[int, bytes | BadRow]]


def plain_rows(block: Block, kind: Kind, layout: Layout, source: str, limit: int | None) -> Plain:
    """Take what can be taken of a block; ``limit`` is the most records to look at."""
    known = _known(layout)
    scanned = scan(block, keys_of(known, layout.turn, tuple(layout.roles)), utf8=_is_utf8(block))
    _shorten(scanned, limit)
    fields = _Fields(block, scanned, list(known))
    numbers = {name: fields.numbers(name) for name in layout.numbers}
    _doubt(scanned, fields, layout)
    extra = _Extra(scanned)
    rows = np.flatnonzero(scanned.status >= PLAIN)
    content = fields.content(layout, rows)
    if layout.differ is not None:
        same = _same(*(content[name] for name in layout.differ))
        if same.any():
            scanned.status[rows[same]] = ODD
            rows = rows[~same]
            content = fields.content(layout, rows)
    digest, sizes = digests(kind, content)
    others, more = extra.of(rows)
    facts = {name: pl.Series(column[rows]).fill_nan(None) for name, column in numbers.items()}
    made = {name: column.to_arrow(compat_level=_COMPAT) for name, column in facts.items()}
    made |= content | {"digest": digest, "extra": others}
    table = _table(kind, source, rows + block.first, made)
    return Plain(table, rows + block.first, sizes + more, _odd(block, scanned))


def _known(layout: Layout) -> dict[str, int]:
    known: dict[str, int] = {}
    for said in (said for turns in layout.columns.values() for said in turns):
        known[said.key] = TEXT
        if said.beside:
            known[said.beside] = BOTH
    known |= dict.fromkeys(layout.listed, TURNS)
    known |= dict.fromkeys(layout.numbers, NUMBER)
    return known | dict.fromkeys(layout.unused, UNUSED)


def _is_utf8(block: Block) -> bool:
    try:
        _strings(block.data, np.array([0, block.size])).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _shorten(scanned: Scanned, limit: int | None) -> None:
    """Leave out all but the first records; tell lines that are too long."""
    status = scanned.status
    if limit is not None:
        status[np.cumsum(status != BLANK) > limit] = BLANK
    status[(scanned.ends - scanned.starts >= jsonlines.MAX_LINE) & (status != BLANK)] = ODD


def _doubt(scanned: Scanned, fields: _Fields, layout: Layout) -> None:
    """Lines that lack a text, or have none or several of the lists, are odd."""
    doubt = np.zeros(len(scanned.status), np.bool_)
    for said in (said for turns in layout.columns.values() for said in turns):
        doubt |= fields.found(said.key) < STRING
    if layout.listed:
        doubt |= sum((fields.found(name) == LIST).astype(int) for name in layout.listed) != 1
    for name in layout.numbers:
        doubt |= np.isinf(fields.numbers(name))
    scanned.status[doubt & (scanned.status >= PLAIN)] = ODD


class _Extra:
    """The ``extra`` of each line; a fragment that is not valid makes its line odd."""

    def __init__(self, scanned: Scanned) -> None:
        starts = scanned.extra_starts
        self._data = scanned.extra
        self._spans = np.stack([starts[:-1], starts[1:]], axis=1)
        fragments = np.flatnonzero(scanned.status == FRAGMENT)
        if len(fragments):
            self._write_anew(fragments, scanned.status)

    def _write_anew(self, fragments: _Ints, status: _Bytes) -> None:
        made = []
        for at, (low, high) in zip(fragments, self._spans[fragments], strict=True):
            try:
                made.append(dump(parse(self._data[low:high].tobytes())).encode())
            except BadRow:
                status[at] = ODD
                made.append(b"")
        ends = int(self._spans[-1, 1]) + np.cumsum([0, *map(len, made)])
        written = np.frombuffer(b"".join(made), np.uint8)
        self._data = np.concatenate([self._data[: ends[0]], written])
        self._spans[fragments] = np.stack([ends[:-1], ends[1:]], axis=1)

    def of(self, rows: _Ints) -> tuple[Any, _Ints]:
        """The texts of the lines ``rows``, null where there is none, and their bytes."""
        found = np.full((len(self._spans), 1), STRING, np.uint8)
        spans = self._spans[:, None].astype(np.int32)
        data, starts = gather(self._data, spans, found, rows, _FIRST)
        sizes = np.diff(starts)
        there = pa.py_buffer(np.packbits(sizes > 0, bitorder="little"))
        buffers = [there, pa.py_buffer(starts), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_string(), len(sizes), buffers), sizes


def _same(one: Any, other: Any) -> _Mask:
    """Where two columns of lists of one turn say the same."""
    texts = (pl.Series(lists.values.field("content")) for lists in (one, other))
    return next(texts).eq_missing(next(texts)).to_numpy()


def _odd(block: Block, scanned: Scanned) -> list[tuple[int, bytes | BadRow]]:
    """Number and bytes of each odd line, with its line feed if it had one."""
    lines: list[tuple[int, bytes | BadRow]] = []
    for at in np.flatnonzero(scanned.status == ODD).tolist():
        feed = not (block.cut and at == len(scanned.status) - 1)
        text = block.data[scanned.starts[at] : scanned.ends[at] + feed].tobytes()
        long = len(text) + (not feed) > jsonlines.MAX_LINE
        lines.append((block.first + at, too_long(len(text)) if long else text))
    return lines


class _Fields:
    """The known fields of a block by their names."""

    def __init__(self, block: Block, scanned: Scanned, names: list[str]) -> None:
        self._block, self._scanned, self._names = block, scanned, names

    def found(self, name: str) -> _Bytes:
        """What each line has under ``name``."""
        return self._scanned.found[:, self._names.index(name)]

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """The number of each line, NaN where it has none."""
        found = self.found(name)
        there = np.flatnonzero((found == DIGITS) | (found == REAL))
        values = np.full(len(found), np.nan)
        text = _strings(*self._gather(there, [(self._names.index(name), -1)]))
        values[there] = pl.Series(text, dtype=pl.String).cast(pl.Float64).to_numpy()
        return values

    def content(self, layout: Layout, rows: _Ints) -> dict[str, Any]:
        """The content columns of the lines ``rows``."""
        if layout.listed:
            return {"messages": self._listed(rows, list(layout.roles.values()))}
        return {name: self._said(rows, said) for name, said in layout.columns.items()}

    def _said(self, rows: _Ints, turns: tuple[Said, ...]) -> Any:
        """The same turns of each line."""
        at = self._names.index
        texts = [(at(said.key), at(said.beside) if said.beside else -1) for said in turns]
        contents = _strings(*self._gather(rows, texts))
        roles = np.tile(np.arange(len(turns)), len(rows))
        ends = np.arange(len(rows) + 1) * len(turns)
        return _conversations([said.role for said in turns], roles, contents, ends)

    def _listed(self, rows: _Ints, roles: list[str]) -> Any:
        """The lists of turns, one a line."""
        starts, scanned = self._scanned.turn_starts, self._scanned
        counts = np.diff(starts)[rows]
        ends = np.concatenate([[0], np.cumsum(counts)])
        turns = np.repeat(starts[:-1][rows] - ends[:-1], counts) + np.arange(ends[-1])
        texts = gather(self._block.data, scanned.turns, scanned.said, turns, _FIRST)
        return _conversations(roles, scanned.spoken[turns].astype(int), _strings(*texts), ends)

    def _gather(self, rows: _Ints, texts: list[tuple[int, int]]) -> tuple[_Bytes, _Ints]:
        scanned = self._scanned
        return gather(self._block.data, scanned.spans, scanned.found, rows, np.array(texts))


_FIRST: Final = np.array([[0, -1]])
_NAMES: Final = [field.name for field in TURN.fields]


def _conversations(roles: Sequence[str], which: _Ints, contents: Any, ends: _Ints) -> Any:
    """Lists of turns, ``roles[which]`` with its content, a list from one end to the next."""
    nothing = pa.nulls(len(contents), pa.large_string())
    spoken = _picked(roles, which)
    turns = pa.StructArray.from_arrays([spoken, contents, nothing, nothing, nothing], _NAMES)
    return pa.LargeListArray.from_arrays(_numbers(ends), turns)


def _picked(texts: Sequence[str], which: _Ints) -> Any:
    """The texts by their numbers, as a column."""
    written = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, written)], dtype=np.int32)
    data = np.array([*b"".join(written)], np.uint8)
    spans = np.stack([ends[:-1], ends[1:]], axis=1)[:, None]
    found = np.full((len(texts), 1), STRING, np.uint8)
    return _strings(*gather(data, spans, found, which, _FIRST))


def _table(kind: Kind, source: str, lines: _Ints, made: dict[str, Any]) -> pa.Table:
    each = np.zeros(len(lines), np.int64)  # of one; `pa.repeat` of a scalar would import pandas
    columns = made | {
        "id": _strings(*numbered(np.array([*f"{source}:".encode()], np.uint8), lines)),
        "source": _picked([source], each),
        "row": _numbers(lines),
        "kind": _picked([kind], each),
    }
    schema = arrow_schema(kind)
    lacking = {field.name: field.type for field in schema if field.name not in columns}
    columns |= {name: pa.nulls(len(lines), dtype) for name, dtype in lacking.items()}
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _strings(data: _Bytes, starts: _Ints) -> Any:
    offsets = pa.py_buffer(np.ascontiguousarray(starts, np.int64))
    return pa.LargeStringArray.from_buffers(len(starts) - 1, offsets, pa.py_buffer(data))


def _numbers(values: _Ints) -> Any:
    column = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(column), [None, pa.py_buffer(column)])
