"""Blocks of JSON lines to columns: plain lines without a Python value each, odd ones told apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from curate.core import jsonlines
from curate.core.canonical import digests
from curate.core.errors import BadRow
from curate.core.jsonlines import parse, too_long
from curate.core.jsonscan import (
    BLANK,
    BOTH,
    FRAGMENT,
    NUMBER,
    ODD,
    PAD,
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
from curate.core.schema import TURN, Kind, schema_of
from curate.core.spans import gather

__all__ = ["BLOCK", "Block", "Plain", "blocks", "plain_rows"]

BLOCK: Final = 16 << 20
"""Bytes that are read at a time."""

_BETWEEN: Final = b"\n\n"
_LINE_FEED: Final = 10
_WINDOW: Final = 1 << 16
_Mask: TypeAlias = npt.NDArray[np.bool_]
_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Whole lines: ``data[:size]``, the last with a line feed; ``first`` is the first's number.

    ``cut`` says that the last had none. A block of no bytes stands for one line that is too long.
    """

    data: _Bytes
    size: int
    first: int
    cut: bool = False
    wrong: BadRow | None = None


@dataclass(frozen=True)
class Plain:
    """The rows of a block's plain lines, and its odd lines as they are, or why they are not taken.

    ``lines`` has the line numbers of ``table``, ``sizes`` the bytes of each row.
    """

    table: pl.DataFrame
    lines: _Ints
    sizes: _Ints
    odd: list[tuple[int, bytes | BadRow]]


def blocks(stream: BinaryIO) -> Iterator[Block]:
    """The lines of a stream, in blocks of about `BLOCK` bytes, or of one line where it is long."""
    rest, number, read = b"", 1, 1
    while read or rest:
        data, filled, read = _filled(stream, rest, max(BLOCK, len(rest)))
        cut = bool(not read and filled and data[filled - 1] != _LINE_FEED)
        end = filled if cut else _last_line_feed(data, filled)
        if end < 0 and filled >= jsonlines.MAX_LINE:
            length, rest = _skip(stream, filled)
            yield Block(data, 0, number, wrong=too_long(length))
            number += 1
            continue
        rest = data[end + 1 : filled].tobytes()
        if end >= 0:
            _pad(data, end)
            yield Block(data, end + 1, number, cut)
            number += int(np.count_nonzero(data[: end + 1] == _LINE_FEED))


def _filled(stream: BinaryIO, rest: bytes, size: int) -> tuple[_Bytes, int, int]:
    """``rest`` and up to ``size`` bytes more, how many there are, and 0 at the stream's end."""
    data = np.empty(len(rest) + size + 3 * PAD, np.uint8)
    data[: len(rest)] = np.frombuffer(rest, np.uint8)
    filled, read = len(rest), 1
    while filled < len(rest) + size and read:
        read = stream.readinto(memoryview(data.data)[filled : len(rest) + size])  # type: ignore[attr-defined]
        filled += read
    return data, filled, read


def _pad(data: _Bytes, end: int) -> None:
    """A line feed at the end, zeros behind it, and behind these what stands between two texts."""
    data[end : end + 1 + 2 * PAD] = 0
    data[end] = _LINE_FEED
    data[end + 1 + PAD : end + 1 + PAD + len(_BETWEEN)] = np.frombuffer(_BETWEEN, np.uint8)


def _last_line_feed(data: _Bytes, filled: int) -> int:
    while filled:
        begin = max(0, filled - _WINDOW)
        found = np.flatnonzero(data[begin:filled] == _LINE_FEED)
        if len(found):
            return begin + int(found[-1])
        filled = begin
    return -1


def _skip(stream: BinaryIO, length: int) -> tuple[int, bytes]:
    """Read past a line's end: its length, and what was read behind it."""
    while chunk := stream.read(_WINDOW):
        line, found, rest = chunk.partition(b"\n")
        length += len(line) + len(found)
        if found:
            return length, rest
    return length, b""


def plain_rows(block: Block, kind: Kind, layout: Layout, source: str, limit: int | None) -> Plain:
    """Take what can be taken of a block; ``limit`` is the most records to look at."""
    known = _known(layout)
    keys = keys_of(known, layout.turn, tuple(layout.roles))
    scanned = scan(block.data, block.size, keys, utf8=_is_utf8(block))
    _shorten(scanned, limit)
    fields = _Fields(block, scanned, list(known))
    numbers = {name: fields.numbers(name) for name in layout.numbers}
    _doubt(scanned, fields, layout)
    extra = _extra(scanned)
    rows = np.flatnonzero(scanned.status >= PLAIN)
    content = fields.content(layout, rows)
    differ = _differing(content, layout)
    if not differ.all():
        scanned.status[rows[~differ]] = ODD
        rows, content = rows[differ], {k: v.filter(_flags(differ)) for k, v in content.items()}
    extra = extra if len(rows) == len(extra) else extra.gather(rows)
    facts = {name: pl.Series(column[rows]).fill_nan(None) for name, column in numbers.items()}
    digest, sizes = digests(kind, content)
    lines = rows + block.first
    table = _table(kind, source, lines, content | {"digest": digest}, facts | {"extra": extra})
    sizes += extra.str.len_bytes().fill_null(0).to_numpy()
    return Plain(table, lines, sizes, _odd(block, scanned))


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


def _extra(scanned: Scanned) -> pl.Series:
    """The ``extra`` of each line, null where it has none; a fragment that is not valid is odd."""
    starts, status = scanned.extra_starts, scanned.status
    data = scanned.extra
    texts = pl.Series(_strings(data, starts), dtype=pl.String)
    texts = texts.set(pl.Series(np.diff(starts) == 0), None)
    fragments = np.flatnonzero(status == FRAGMENT)
    if not len(fragments):
        return texts
    made: list[str | None] = []
    for at in fragments:
        try:
            made.append(dump(parse(data[starts[at] : starts[at + 1]].tobytes())))
        except BadRow:
            status[at] = ODD
            made.append(None)
    return texts.scatter(fragments, pl.Series(made, dtype=pl.String))


def _differing(content: dict[str, Any], layout: Layout) -> _Mask:
    height = len(next(iter(content.values())))
    if layout.differ is None:
        return np.ones(height, np.bool_)
    one, other = (pl.Series(content[name].values.field("content")) for name in layout.differ)
    return (one != other).to_numpy()


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
        at, found = self._names.index(name), self.found(name)
        there = (found == DIGITS) | (found == REAL)
        values = np.full(len(found), np.nan)
        spans = np.ascontiguousarray(self._scanned.spans[there, at])
        text = _strings(*gather(self._block.data, spans, np.zeros(len(spans), np.uint8), 1))
        values[there] = pl.Series(text, dtype=pl.String).cast(pl.Float64).to_numpy()
        return values

    def content(self, layout: Layout, rows: _Ints) -> dict[str, Any]:
        """The content columns of the lines ``rows``."""
        if layout.listed:
            return {"messages": self._listed(rows, list(layout.roles.values()))}
        return {name: self._said(rows, said) for name, said in layout.columns.items()}

    def _said(self, rows: _Ints, turns: tuple[Said, ...]) -> Any:
        """The same turns of each line."""
        pieces = 3 if any(said.beside for said in turns) else 1
        spans = np.zeros((len(rows), len(turns), pieces, 2), np.int32)
        found = np.zeros((len(rows), len(turns), pieces), np.uint8)
        for turn, said in enumerate(turns):
            at = self._names.index(said.key)
            spans[:, turn, 0] = self._scanned.spans[rows, at]
            found[:, turn, 0] = self._scanned.found[rows, at]
            if said.beside:
                self._beside(rows, said.beside, spans[:, turn], found[:, turn])
        data, starts = gather(self._block.data, spans.reshape(-1, 2), found.reshape(-1), pieces)
        roles = np.tile(np.arange(len(turns)), len(rows))
        ends = np.arange(len(rows) + 1) * len(turns)
        return _conversations([said.role for said in turns], roles, _strings(data, starts), ends)

    def _beside(self, rows: _Ints, key: str, spans: npt.NDArray[np.int32], found: _Bytes) -> None:
        at = self._names.index(key)
        text = self._scanned.spans[rows, at]
        there = self._scanned.found[rows, at] >= STRING
        there &= text[:, 1] > text[:, 0]
        between = self._block.size + PAD
        spans[there, 1] = (between, between + len(_BETWEEN))
        spans[there, 2] = text[there]
        found[:, 2] = self._scanned.found[rows, at]

    def _listed(self, rows: _Ints, roles: list[str]) -> Any:
        """The lists of turns, one a line."""
        starts = self._scanned.turn_starts
        counts = (starts[1:] - starts[:-1])[rows]
        ends = np.concatenate([[0], np.cumsum(counts)])
        turns = np.repeat(starts[:-1][rows] - ends[:-1], counts) + np.arange(ends[-1])
        said = self._scanned.said[turns]
        spans, found = self._scanned.turns[turns], np.ascontiguousarray(said[:, 1])
        texts = _strings(*gather(self._block.data, spans, found, 1))
        return _conversations(roles, said[:, 0], texts, ends)


def _conversations(roles: list[str], which: Any, contents: Any, ends: _Ints) -> Any:
    """Lists of turns, ``roles[which]`` with its content, a list from one end to the next."""
    spoken = pl.Series(roles, dtype=pl.String).gather(which)
    role = spoken.to_arrow(compat_level=pl.CompatLevel.oldest())
    nothing = pa.nulls(len(contents), pa.large_string())
    names = [field.name for field in TURN.fields]
    turns = pa.StructArray.from_arrays([role, contents, nothing, nothing, nothing], names)
    return pa.LargeListArray.from_arrays(_numbers(ends), turns)


def _table(
    kind: Kind, source: str, lines: _Ints, made: dict[str, Any], facts: dict[str, pl.Series]
) -> pl.DataFrame:
    frame = pl.from_arrow(pa.table(made))
    assert isinstance(frame, pl.DataFrame)
    number = pl.Series("row", lines, dtype=pl.Int64)
    constant = {"source": source, "kind": kind}
    columns = {
        "id": f"{source}:" + number.cast(pl.String),
        "row": number,
        **{
            name: pl.Series([text]).new_from_index(0, len(lines)) for name, text in constant.items()
        },
        **{column.name: column for column in frame},
        **facts,
    }
    schema = schema_of(kind)
    return pl.DataFrame({name: columns.get(name, [None] * len(lines)) for name in schema}, schema)


def _strings(data: _Bytes, starts: _Ints) -> Any:
    offsets = pa.py_buffer(np.ascontiguousarray(starts, np.int64))
    return pa.LargeStringArray.from_buffers(len(starts) - 1, offsets, pa.py_buffer(data))


def _numbers(values: _Ints) -> Any:
    column = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(column), [None, pa.py_buffer(column)])


def _flags(mask: _Mask) -> Any:
    return pl.Series(mask).to_arrow()
