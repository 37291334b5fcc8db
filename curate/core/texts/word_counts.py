"""Words of many texts, counted by compiled code as the pattern `core.texts.text.WORD` has them."""

from __future__ import annotations

from functools import cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from curate.core.readers.addresses import byte
from curate.core.texts.text import IN_WORD, WORD, WORD_ALONE
from curate.core.texts.utf8 import decode

__all__ = ["word_counts"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_PLANES: Final = 0x20000  # code points in the table; a text with one above is left to the pattern
_IN, _ALONE, _MARK, _NUMBER, _APOSTROPHE, _POINT = (1 << bit for bit in range(6))
_JOINS: Final = _APOSTROPHE | _POINT
_CLASSES: Final = {
    _IN: IN_WORD,
    _ALONE: WORD_ALONE,
    _MARK: r"\p{M}",
    _NUMBER: r"\p{N}",
    _APOSTROPHE: "['’]",
    _POINT: "[.,]",
}


def word_counts(text: pl.Series) -> pl.Series:
    """Number of words of each text as UInt32; null stays null.

    >>> word_counts(pl.Series(["It isn't 1,000 km.", "你好世界", "สวัสดี", "", None])).to_list()
    [4, 4, 4, 0, None]
    """
    filled = text.fill_null("") if text.null_count() else text
    whole = filled.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, starts, content = whole.buffers()
    offsets = np.frombuffer(starts, np.int64)[whole.offset : whole.offset + len(whole) + 1]
    data = np.frombuffer(content or b"\0", np.uint8)
    counts = np.empty(len(text), np.int64)
    _count(data, offsets, _table(), counts)
    unsure = np.flatnonzero(counts < 0)
    counts[unsure] = filled[unsure].str.count_matches(WORD).to_numpy()
    known = pl.Series(text.name, counts, dtype=pl.UInt32)
    nothing = pl.Series(text.name, [None], dtype=pl.UInt32)
    return known.zip_with(text.is_not_null(), nothing) if text.null_count() else known


@cache
def _table() -> Bytes:
    """The classes of each code point of the first two planes, as the pattern's own engine says."""
    codes = np.array([code for code in range(_PLANES) if not 0xD800 <= code < 0xE000])
    letters = pl.Series([chr(code) for code in codes.tolist()])
    table = np.zeros(_PLANES, np.uint8)
    for bit, pattern in _CLASSES.items():
        table[codes] |= letters.str.contains(pattern).to_numpy() * np.uint8(bit)
    table.setflags(write=False)
    return table


@njit(cache=True, nogil=True)
def _count(data: Bytes, offsets: Ints, table: Bytes, counts: Ints) -> None:
    for text in range(len(counts)):
        counts[text] = _words(data, offsets[text], offsets[text + 1], table)


@njit(cache=True, nogil=True)
def _words(data: Bytes, at: _Int, end: int, table: Bytes) -> int:
    """Words in ``data[at:end]``; below 0 where a letter is not in the table.

    Letters of ASCII and what separates them are counted without branches.
    """
    base = data.ctypes.data
    classes = table.ctypes.data
    found = 0
    inside: int = 0
    while at < end:
        code = byte(base, at)
        kind = byte(classes, code)
        if code < 128 and not kind & _JOINS:
            at += 1
            letter = kind & _IN
            found += letter & (1 - inside)
            inside = letter
            continue
        code, length = decode(data, at)
        if code >= _PLANES:
            return -1
        kind = table[code]
        if kind & _JOINS and inside:
            at, inside = _join(data, at, end, table)
            continue
        at += length
        inside_before, inside = inside, kind & _IN
        found += inside & (1 - inside_before)
        if kind & _ALONE:
            found += 1
            at = _past(data, at, end, table, _MARK)
    return found


@njit(cache=True, nogil=True)
def _join(data: Bytes, at: _Int, end: int, table: Bytes) -> tuple[_Int, int]:
    """Where a word goes on after what may join it, and whether letters still belong to it."""
    while at < end:
        code, length = decode(data, at)
        kind = table[code] if code < _PLANES else 0
        if not kind & _JOINS:
            return at, 0
        at += length
        if kind & _APOSTROPHE:
            more = at < end and _kind(data, at, table) & _IN
            return at, 1 if more else 0
        after = _past(data, at, end, table, _NUMBER)
        if after == at:
            return at, 0
        at = after
    return at, 0


@njit(cache=True, nogil=True)
def _past(data: Bytes, at: _Int, end: int, table: Bytes, kind: int) -> _Int:
    """The place behind a run of letters of a class."""
    while at < end and _kind(data, at, table) & kind:
        at += decode(data, at)[1]
    return at


@njit(cache=True, nogil=True)
def _kind(data: Bytes, at: _Int, table: Bytes) -> int:
    code = decode(data, at)[0]
    return int(table[code]) if code < _PLANES else 0
