"""Content digests of many rows at once: serialisation of the content columns, and BLAKE2b.

A row is serialised as the kind (a text), then each content column in schema order. A text is its
length in bytes (4 bytes, little-endian) and its UTF-8; null is the length ``0xFFFFFFFF``. A list is
its length (4 bytes) and its items; a turn is its five fields in the order of `TURN`; a boolean is
one byte. Different contents of a kind have different bytes.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from siftune.curate.core.schema import CONTENT, TURN, TURNS, Kind
from siftune.curate.native.blake2b import DIGEST, LANES, WORK, hash_lanes
from siftune.curate.native.jit import compiled
from siftune.curate.native.pointers import byte, copy, prefetch, put_byte, put_length, word
from siftune.curate.rows.convert import framed

__all__ = ["digests"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

_NULL: Final = 0xFFFFFFFF
_LINE, _AHEAD = 64, 2048  # bytes: a cache line, and the most that is prefetched of a row
_NEAR: Final = 512  # rows that are sorted by length together: they fit in the cache


def digests(kind: Kind, content: dict[str, pa.Array]) -> tuple[pa.Array, Ints]:
    """Digest of each row, and the number of bytes that are hashed.

    ``content`` has the content columns of ``kind`` as Arrow arrays without nulls: lists of turns
    as large lists, their fields as large strings.
    """
    names = [name for name, dtype in CONTENT[kind].items() if dtype == TURNS]
    booleans = [name for name, dtype in CONTENT[kind].items() if dtype == pl.Boolean]
    if [*names, *booleans[:1]] != list(CONTENT[kind]):
        raise TypeError(f"{kind} rows have content that is not lists of turns, then a boolean")
    columns = [_Column(content[name]) for name in names]
    head = framed(kind)
    sizes = np.full(len(content[names[0]]), len(head), np.int64)
    for column in columns:
        sizes += column.sizes()
    boolean = _bits(content[booleans[0]], 1) if booleans else np.zeros(0, np.uint8)
    sizes += len(booleans)
    out = np.empty(DIGEST * len(sizes), np.uint8)
    order = _batch_order(sizes)
    turns = tuple(column.turns for column in columns)
    work = np.empty(WORK, np.int64)
    start = np.array([*head], np.uint8)
    _hash(start, turns, boolean, sizes, order, _scratch(sizes[order]), work, out)
    ends = pa.py_buffer(np.arange(len(sizes) + 1, dtype=np.int64) * DIGEST)
    return pa.LargeStringArray.from_buffers(len(sizes), ends, pa.py_buffer(out)), sizes


def _batch_order(sizes: Ints) -> Ints:
    """Row order in which rows hashed in parallel have similar lengths and nearby memory."""
    part = np.arange(len(sizes)) // _NEAR
    return np.argsort(part << 40 | sizes)


def _scratch(sizes: Ints) -> Bytes:
    """Memory for the bytes of any `LANES` rows that are hashed in parallel."""
    together = np.add.reduceat(sizes, np.arange(0, len(sizes), LANES)) if len(sizes) else sizes
    return np.empty(int(together.max(initial=0)), np.uint8)


class _Texts(NamedTuple):
    """Addresses of a column of texts: offsets, bytes, and one byte per text that is 1 for null.

    ``null`` is 0 if no text is null, ``starts`` is 0 if all are. Passing arrays instead would count
    references.
    """

    starts: int
    data: int
    null: int


class _Turns(NamedTuple):
    """Addresses of a column of lists of turns: list offsets, and the fields of `TURN`."""

    starts: int
    role: _Texts
    content: _Texts
    name: _Texts
    tool_calls: _Texts
    tool_call_id: _Texts


class _Column:
    """A column of lists of turns, with the arrays that its addresses point to."""

    def __init__(self, lists: Any) -> None:
        self._starts = _starts(lists)
        self._fields = [lists.values.field(i) for i in range(len(TURN.fields))]
        self._nulls = [_nulls(field) for field in self._fields]
        texts = map(_texts, self._fields, self._nulls)
        self.turns = _Turns(self._starts.ctypes.data, *texts)

    def sizes(self) -> Ints:
        """Serialised size of each list in bytes."""
        turns = np.full(int(self._starts[-1]) + 1, 4 * len(self._fields), np.int64)
        turns[0] = 0
        for field in self._fields:
            if field.null_count < len(field):
                turns[1:] += np.diff(_starts(field))
        return 4 + np.diff(np.cumsum(turns)[self._starts])


def _starts(array: Any) -> Ints:
    """Offsets of the lists or texts: each start, and the last end."""
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset :][: len(array) + 1]


def _nulls(column: Any) -> Bytes:
    """One byte per text, 1 where it is null."""
    return 1 - _bits(column, 0)


def _bits(column: Any, buffer: int) -> Bytes:
    """One byte per bit of a buffer of a column."""
    bits = np.frombuffer(column.buffers()[buffer] or b"", np.uint8)
    return np.unpackbits(bits, bitorder="little")[column.offset :][: len(column)]


def _texts(column: Any, nulls: Bytes) -> _Texts:
    if column.null_count == len(column):
        return _Texts(0, 0, 0)
    data = column.buffers()[2]
    null = nulls.ctypes.data if column.null_count else 0
    return _Texts(_starts(column).ctypes.data, data.address if data else 0, null)


@compiled()
def _hash(
    head: Bytes,
    columns: tuple[_Turns, ...],
    boolean: Bytes,
    sizes: Ints,
    order: Ints,
    scratch: Bytes,
    work: Ints,
    out: Bytes,
) -> None:
    """Serialise `LANES` rows at a time into ``scratch`` and hash them there."""
    to, out_at = np.int64(scratch.ctypes.data), np.int64(out.ctypes.data)
    work_at = np.int64(work.ctypes.data)
    offsets = np.zeros(LANES + 1, np.int64)
    places = np.zeros(LANES, np.int64)
    for begin in range(0, len(order), LANES):
        texts = min(LANES, len(order) - begin)
        for lane in range(texts):
            row = order[begin + lane]
            at = to + offsets[lane]
            copy(at, head.ctypes.data, len(head))
            at += len(head)
            for column in columns:
                at = _write_turns(column, row, at)
            if len(boolean):
                put_byte(at, 0, boolean[row])
            offsets[lane + 1] = offsets[lane] + sizes[row]
            places[lane] = row * DIGEST
        for after in range(begin + LANES, min(begin + 2 * LANES, len(order))):
            for column in columns:
                _prefetch_turns(column, order[after])
        hash_lanes(to, offsets, texts, work_at, out_at, places)


@compiled()
def _prefetch_turns(column: _Turns, row: int) -> None:
    """Prefetch the first texts of a row, which are copied next."""
    texts = column.content
    if texts.starts == 0:
        return
    begin = word(texts.starts, word(column.starts, row))
    end = word(texts.starts, word(column.starts, row + 1))
    for at in range(begin, min(end, begin + _AHEAD), _LINE):
        prefetch(texts.data + at)


@compiled()
def _write_turns(column: _Turns, row: int, at: Any) -> Any:
    """Write the turns of a row at an address; the address after them."""
    first, last = word(column.starts, row), word(column.starts, row + 1)
    put_length(at, last - first)
    at += 4
    for turn in range(first, last):
        at = _write_text(column.role, turn, at)
        at = _write_text(column.content, turn, at)
        at = _write_text(column.name, turn, at)
        at = _write_text(column.tool_calls, turn, at)
        at = _write_text(column.tool_call_id, turn, at)
    return at


@compiled(inline="always")
def _write_text(texts: _Texts, turn: Any, at: Any) -> Any:
    """Write one text at an address; the address after it."""
    if texts.starts == 0 or (texts.null != 0 and byte(texts.null, turn) == 1):
        put_length(at, _NULL)
        return at + 4
    start = word(texts.starts, turn)
    length = word(texts.starts, turn + 1) - start
    put_length(at, length)
    copy(at + 4, texts.data + start, length)
    return at + 4 + length
