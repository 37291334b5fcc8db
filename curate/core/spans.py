"""Spans of JSON text copied together into one Arrow column of strings, escapes resolved."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.core.jsontokens import ESCAPED, hex_at
from curate.core.lanes import WIDTH, copy, copy_block, first, special

__all__ = ["gather"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same

_CODES = np.frombuffer(b'"\\/bfnrt', np.uint8)
_MEANT = np.frombuffer(b'"\\/\b\f\n\r\t', np.uint8)


def gather(
    block: Bytes, spans: npt.NDArray[np.int32], found: Bytes, pieces: int
) -> tuple[Bytes, Ints]:
    """Texts of ``pieces`` spans each: their bytes, and where each of them starts.

    Args:
        block: what was scanned.
        spans: (texts x pieces, 2) begin and end of each piece.
        found: (texts x pieces,) `ESCAPED` where a piece has escapes.
        pieces: of a text.
    """
    lengths = spans[:, 1] - spans[:, 0]
    out = np.empty(int(lengths.sum(dtype=np.int64)) + WIDTH, np.uint8)
    starts = np.zeros(len(spans) // pieces + 1, np.int64)
    _gather(block, spans, found, pieces, out, starts)
    return out, starts


@njit(cache=True, nogil=True)
def _gather(
    block: Bytes,
    spans: npt.NDArray[np.int32],
    found: Bytes,
    pieces: int,
    out: Bytes,
    starts: Ints,
) -> None:
    begin, to = block.ctypes.data, out.ctypes.data
    at: _Int = 0
    for text in range(len(starts) - 1):
        for piece in range(text * pieces, (text + 1) * pieces):
            low, high = np.int64(spans[piece, 0]), np.int64(spans[piece, 1])
            if found[piece] == ESCAPED:
                at = _resolve(block, low, high, out, at)
            else:
                copy(to + at, begin + low, high - low)
                at += high - low
        starts[text + 1] = at


@njit(cache=True, nogil=True)
def _resolve(block: Bytes, low: _Int, high: _Int, out: Bytes, at: _Int) -> _Int:
    """Copy a string with escapes; the block may be written `WIDTH` bytes beyond its end."""
    begin, to = block.ctypes.data, out.ctypes.data
    while low < high:
        count = min(np.int64(WIDTH), first(special(begin, low)), high - low)
        copy_block(to + at, begin + low)
        low += count
        at += count
        if low < high and block[low] == 0x5C:
            if block[low + 1] == 0x75:
                low, at = _character(block, low, out, at)
            else:
                for i in range(len(_CODES)):
                    if block[low + 1] == _CODES[i]:
                        out[at] = _MEANT[i]
                low += 2
                at += 1
    return at


@njit(cache=True, nogil=True)
def _character(block: Bytes, low: _Int, out: Bytes, at: _Int) -> tuple[_Int, _Int]:
    r"""Write one ``\u`` escape, or a pair of them, as UTF-8."""
    code = hex_at(block.ctypes.data, low + 2)
    low += 6
    if 0xD800 <= code < 0xDC00:
        code = 0x10000 + ((code - 0xD800) << 10) + (hex_at(block.ctypes.data, low + 2) - 0xDC00)
        low += 6
    if code < 0x80:
        out[at] = code
        return low, at + 1
    if code < 0x800:
        out[at] = 0xC0 | code >> 6
        out[at + 1] = 0x80 | code & 63
        return low, at + 2
    if code < 0x10000:
        out[at] = 0xE0 | code >> 12
        out[at + 1] = 0x80 | code >> 6 & 63
        out[at + 2] = 0x80 | code & 63
        return low, at + 3
    out[at] = 0xF0 | code >> 18
    out[at + 1] = 0x80 | code >> 12 & 63
    out[at + 2] = 0x80 | code >> 6 & 63
    out[at + 3] = 0x80 | code & 63
    return low, at + 4
