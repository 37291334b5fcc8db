"""The bytes that a content digest is taken over, made for many rows at once.

What a row says is written as: the kind as a text, then each content column in schema order. A text
is its length in bytes (4 bytes, little-endian) and its UTF-8; null is the length ``0xFFFFFFFF``. A
list is its length (4 bytes) and its items; a turn is its five fields in the order of `TURN`; a
truth value is one byte. No two contents of a kind share their bytes.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from curate.core.blake import hex_digests
from curate.core.lanes import copy, put_length
from curate.core.rows import framed
from curate.core.schema import CONTENT, TURN, TURNS, Kind

__all__ = ["digests"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

_NULL: Final = 0xFFFFFFFF


def digests(kind: Kind, content: dict[str, pa.Array]) -> tuple[pa.Array, Ints]:
    """Digest of each row, and the number of bytes it is taken over.

    ``content`` has the content columns of ``kind`` as Arrow arrays without nulls: lists of turns
    as large lists, their fields as large strings.
    """
    height = len(next(iter(content.values())))
    head = np.frombuffer(framed(kind), np.uint8)  # never to be written to
    sizes = np.full(height, len(head), np.int64)
    columns = [_Turns(content[name]) for name, dtype in CONTENT[kind].items() if dtype == TURNS]
    if len(columns) != len(CONTENT[kind]):
        raise TypeError(f"{kind} rows have content that is not a list of turns")
    for column in columns:
        column.measure(sizes)
    ends = np.cumsum(sizes)
    starts = np.concatenate([[0], ends])
    out = np.empty(int(starts[-1]) + 1, np.uint8)
    at = starts[:-1].copy()
    _write_head(head, out, at)
    for column in columns:
        column.write(out, at)
    text = pa.py_buffer(hex_digests(out, starts))
    offsets = pa.py_buffer(np.arange(height + 1, dtype=np.int64) * 32)
    return pa.LargeStringArray.from_buffers(height, offsets, text), sizes


class _Turns:
    """A column of lists of turns, as buffers."""

    def __init__(self, lists: Any) -> None:
        self._starts = _fixed(lists.offsets.to_numpy())
        turns = lists.values
        self._fields = [_text(turns.field(i)) for i in range(len(TURN.fields))]

    def measure(self, sizes: Ints) -> None:
        """Add the bytes of each list to ``sizes``."""
        turns = np.full(int(self._starts[-1]) + 1, 4 * len(self._fields), np.int64)
        turns[0] = 0
        for field in self._fields:
            if field is not None:
                turns[1:] += np.diff(field[0])
        sizes += 4 + np.diff(np.cumsum(turns)[self._starts])

    def write(self, out: Bytes, at: Ints) -> None:
        """Write each list at its place, and move the places behind them."""
        role, content, name, calls, call_id = [field or _NOTHING for field in self._fields]
        _write_turns(self._starts, role, content, name, calls, call_id, out, at)


_Text: TypeAlias = tuple[Ints, Bytes, npt.NDArray[np.bool_]]


def _fixed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array, not to be written to: compiled code is made for one of the two only."""
    view = array.view()
    view.flags.writeable = False
    return view


_NOTHING: Final[_Text] = (
    _fixed(np.zeros(1, np.int64)),
    _fixed(np.zeros(1, np.uint8)),
    _fixed(np.zeros(0, np.bool_)),
)


def _text(column: Any) -> _Text | None:
    """Starts, bytes, and which are null (empty if none is); none where all are null."""
    if column.null_count == len(column):
        return None
    starts = np.frombuffer(column.buffers()[1], np.int64)[column.offset :][: len(column) + 1]
    data = np.frombuffer(column.buffers()[2] or b"\0", np.uint8)
    if not column.null_count:
        return _fixed(starts), _fixed(data), _NOTHING[2]
    return _fixed(starts), _fixed(data), _fixed(column.is_null().to_numpy(zero_copy_only=False))


@njit(cache=True, nogil=True)
def _write_head(head: Bytes, out: Bytes, at: Ints) -> None:
    for row in range(len(at)):
        for i in range(len(head)):
            out[at[row] + i] = head[i]
        at[row] += len(head)


@njit(cache=True, nogil=True)
def _write_turns(
    lists: Ints,
    role: _Text,
    content: _Text,
    name: _Text,
    calls: _Text,
    call_id: _Text,
    out: Bytes,
    places: Ints,
) -> None:
    to = out.ctypes.data
    for row in range(len(places)):
        put_length(to + places[row], lists[row + 1] - lists[row])
        at = to + places[row] + 4
        for turn in range(lists[row], lists[row + 1]):
            at = _write_text(role, turn, at)
            at = _write_text(content, turn, at)
            at = _write_text(name, turn, at)
            at = _write_text(calls, turn, at)
            at = _write_text(call_id, turn, at)
        places[row] = at - to


@njit(cache=True, nogil=True, inline="always")
def _write_text(column: _Text, turn: int, at: Any) -> Any:
    """Write one text at an address; the address behind it."""
    starts, data, null = column
    if len(starts) == 1 or (len(null) > 0 and null[turn]):
        put_length(at, _NULL)
        return at + 4
    length = starts[turn + 1] - starts[turn]
    put_length(at, length)
    copy(at + 4, data.ctypes.data + starts[turn], length)
    return at + 4 + length
