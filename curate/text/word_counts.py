"""Compiled word count of many texts: equal to counting matches of `word_pattern.WORD`.

ASCII is counted 64 bytes at a time by bit masks. A word starts at a letter or digit that follows
none. It continues after an apostrophe between two letters or digits, and after a point or comma
between one and a digit; but a letter that follows such digits directly is a word of its own.
Other text is counted character by character.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.native.jit import compiled
from siftune.curate.native.simd import WIDTH, bit_count, first_bit, in_range, last_bit, low_bits
from siftune.curate.native.utf8 import decode, utf8_buffer
from siftune.curate.text.word_pattern import IN_WORD, WORD, WORD_ALONE

__all__ = ["word_counts"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_Bits: TypeAlias = Any  # numpy's uint64; compiled code mixes it with no other type

_PLANES: Final = 0x20000  # code points in the table; texts with others are counted by `WORD`
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
_ONE, _TWO, _TOP = np.uint64(1), np.uint64(2), np.uint64(WIDTH - 1)


def word_counts(text: pl.Series) -> pl.Series:
    """Number of words of each text as UInt32; null stays null.

    >>> word_counts(pl.Series(["It isn't 1,000 km.", "你好世界", "สวัสดี", "", None])).to_list()
    [4, 4, 4, 0, None]
    """
    filled = text.fill_null("") if text.null_count() else text
    data, offsets = utf8_buffer(filled)
    counts = np.empty(len(text), np.int64)
    _count(data, offsets, _table(), counts)
    uncounted = np.flatnonzero(counts < 0)
    counts[uncounted] = filled[uncounted].str.count_matches(WORD).to_numpy()
    result = pl.Series(text.name, counts, dtype=pl.UInt32)
    null = pl.Series(text.name, [None], dtype=pl.UInt32)
    return result.zip_with(text.is_not_null(), null) if text.null_count() else result


@cache
def _table() -> Bytes:
    """Bits of `_CLASSES` of each code point of the first two planes, by the engine of `WORD`."""
    codes = np.array([code for code in range(_PLANES) if not 0xD800 <= code < 0xE000])
    chars = pl.Series([chr(code) for code in codes.tolist()])
    table = np.zeros(_PLANES, np.uint8)
    for bit, pattern in _CLASSES.items():
        table[codes] |= chars.str.contains(pattern).to_numpy() * np.uint8(bit)
    table.setflags(write=False)
    return table


@compiled()
def _count(data: Bytes, offsets: Ints, table: Bytes, counts: Ints) -> None:
    for text in range(len(counts)):
        counts[text] = _words(data, offsets[text], offsets[text + 1], table)


class _Masks(NamedTuple):
    """Masks of 64 bytes: letters and digits, digits, apostrophes, points and commas, not ASCII."""

    in_word: _Bits
    digits: _Bits
    apostrophes: _Bits
    points: _Bits
    non_ascii: _Bits


class _Carry(NamedTuple):
    """Masks of the 64 bytes before, and 1 if digits after a joining point may continue.

    All 0 at the start of a text, and after a character that neither is in a word nor joins one.
    """

    in_word: _Bits
    apostrophes: _Bits
    points: _Bits
    number: _Bits


@compiled(inline="always")
def _masks(address: _Int, count: _Int) -> _Masks:
    """Masks of the first ``count`` of the 64 bytes at an address."""
    wanted = low_bits(count)
    digits = in_range(address, 0, 0x30, 10) & wanted
    in_word = in_range(address, 0x20, 0x61, 26) & wanted | digits
    apostrophes = in_range(address, 0, 0x27, 1) & wanted
    points = in_range(address, 2, 0x2E, 1) & wanted
    return _Masks(in_word, digits, apostrophes, points, in_range(address, 0, 0x80, 128) & wanted)


@compiled(inline="always")
def _ascii_words(masks: _Masks, before: _Carry) -> tuple[int, _Carry]:
    """Number of words that start among 64 bytes, and the carry for the next bytes."""
    in_word, digits = masks.in_word, masks.digits
    one_back = in_word << _ONE | before.in_word >> _TOP
    two_back = in_word << _TWO | before.in_word >> (_TOP - _ONE)
    apostrophe = masks.apostrophes << _ONE | before.apostrophes >> _TOP
    point = masks.points << _ONE | before.points >> _TOP
    numbers = point & two_back & digits
    joined = apostrophe & two_back & in_word | numbers
    begun = digits + numbers  # the sum carries each number's first bit past its last
    ends = begun + before.number
    after = ends & ~digits & in_word
    more = np.uint64((begun < digits) | (ends < begun))
    count = bit_count(in_word & ~one_back) - bit_count(joined) + bit_count(after)
    return count, _Carry(in_word, masks.apostrophes, masks.points, more)


@compiled()
def _words(data: Bytes, start: _Int, end: int, table: Bytes) -> int:
    """Words in ``data[start:end]``; below 0 where a character is not in the table.

    Text that is not ASCII is counted character by character, between two ASCII characters that
    neither are in a word nor join one.
    """
    if len(data) - end < WIDTH:  # too few bytes after the text to read 64 at a time
        return _count_chars(data, start, end, table)
    base, at, resumed, total = data.ctypes.data, start, start, 0
    nothing = _Carry(np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0))
    before = nothing
    while at < end:
        masks = _masks(base + at, end - at)
        if masks.non_ascii == 0:
            count, before = _ascii_words(masks, before)
            total += count
            at += WIDTH
            continue
        ascii_end = first_bit(masks.non_ascii)
        head = _masks(base + at, ascii_end)
        cut = last_bit(~(head.in_word | head.apostrophes | head.points) & low_bits(ascii_end)) + 1
        if cut == 0 and at != resumed:
            return _count_chars(data, start, end, table)
        count, _ = _ascii_words(_masks(base + at, cut), before)
        resumed = _next_separator(data, at + ascii_end, end, table)
        rest = _count_chars(data, at + cut, resumed, table)
        if rest < 0:
            return -1
        total += count + rest
        at, before = resumed, nothing
    return total


@compiled()
def _next_separator(data: Bytes, at: _Int, end: int, table: Bytes) -> _Int:
    """Index of the next ASCII character that neither is in a word nor joins one."""
    while at < end and (data[at] >= 128 or table[data[at]] != 0):
        at += 1
    return at


@compiled()
def _count_chars(data: Bytes, at: _Int, end: _Int, table: Bytes) -> int:
    """Words in ``data[at:end]``; below 0 where a character is not in the table."""
    count = 0
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
        count += inside & (1 - inside_before)
        if kind & _ALONE:
            count += 1
            at = _skip(data, at, end, table, _MARK)
    return count


@compiled()
def _join(data: Bytes, at: _Int, end: _Int, table: Bytes) -> tuple[_Int, int]:
    """Index after the characters that may join a word, and 1 if the word continues there."""
    while at < end:
        code, length = decode(data.ctypes.data, at)
        kind = table[code] if code < _PLANES else 0
        if not kind & _JOINS:
            return at, 0
        at += length
        if kind & _APOSTROPHE:
            more = at < end and _kind(data, at, table) & _IN
            return at, 1 if more else 0
        after = _skip(data, at, end, table, _NUMBER)
        if after == at:
            return at, 0
        at = after
    return at, 0


@compiled()
def _skip(data: Bytes, at: _Int, end: _Int, table: Bytes, kind: int) -> _Int:
    """Index after a run of characters of a class."""
    while at < end and _kind(data, at, table) & kind:
        at += decode(data.ctypes.data, at)[1]
    return at


@compiled()
def _kind(data: Bytes, at: _Int, table: Bytes) -> int:
    code = decode(data.ctypes.data, at)[0]
    return int(table[code]) if code < _PLANES else 0
