"""Words of many texts, counted by compiled code as the pattern `core.texts.text.WORD` has them."""

from __future__ import annotations

from functools import cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.native.ascii_words import Before, letters, words
from siftune.curate.native.jit import compiled
from siftune.curate.native.simd import WIDE, first, last, upto
from siftune.curate.native.utf8 import decode
from siftune.curate.text.words import IN_WORD, WORD, WORD_ALONE

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


@compiled()
def _count(data: Bytes, offsets: Ints, table: Bytes, counts: Ints) -> None:
    for text in range(len(counts)):
        counts[text] = _words(data, offsets[text], offsets[text + 1], table)


@compiled()
def _words(data: Bytes, start: _Int, end: int, table: Bytes) -> int:
    """Words in ``data[start:end]``; below 0 where a letter is not in the table.

    What stands between two ASCII letters that are in no word and join none, and is not ASCII
    itself, is counted letter by letter.
    """
    if len(data) - end < WIDE:  # there is nothing behind to be read
        return _letter_by_letter(data, start, end, table)
    base, at, parted, found = data.ctypes.data, start, start, 0
    nothing = Before(np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0))
    before = nothing
    while at < end:
        seen = letters(base + at, end - at)
        if seen.others == 0:
            count, before = words(seen, before)
            found += count
            at += WIDE
            continue
        clear = first(seen.others)
        clear_ones = letters(base + at, clear)
        cut = (
            last(~(clear_ones.inside | clear_ones.apostrophes | clear_ones.points) & upto(clear))
            + 1
        )
        if cut == 0 and at != parted:
            return _letter_by_letter(data, start, end, table)
        count, _ = words(letters(base + at, cut), before)
        parted = _next_apart(data, at + clear, end, table)
        rest = _letter_by_letter(data, at + cut, parted, table)
        if rest < 0:
            return -1
        found += count + rest
        at, before = parted, nothing
    return found


@compiled()
def _next_apart(data: Bytes, at: _Int, end: int, table: Bytes) -> _Int:
    """The next ASCII letter that is in no word and joins none."""
    while at < end and (data[at] >= 128 or table[data[at]] != 0):
        at += 1
    return at


@compiled()
def _letter_by_letter(data: Bytes, at: _Int, end: _Int, table: Bytes) -> int:
    """Words in ``data[at:end]``; below 0 where a letter is not in the table."""
    found = 0
    inside: int = 0
    while at < end:
        code, length = decode(data.ctypes.data, at)
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


@compiled()
def _join(data: Bytes, at: _Int, end: _Int, table: Bytes) -> tuple[_Int, int]:
    """Where a word goes on after what may join it, and whether letters still belong to it."""
    while at < end:
        code, length = decode(data.ctypes.data, at)
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


@compiled()
def _past(data: Bytes, at: _Int, end: _Int, table: Bytes, kind: int) -> _Int:
    """The place behind a run of letters of a class."""
    while at < end and _kind(data, at, table) & kind:
        at += decode(data.ctypes.data, at)[1]
    return at


@compiled()
def _kind(data: Bytes, at: _Int, table: Bytes) -> int:
    code = decode(data.ctypes.data, at)[0]
    return int(table[code]) if code < _PLANES else 0
