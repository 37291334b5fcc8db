"""Texts as sets of n-gram hashes, taken straight from the UTF-8 bytes of an Arrow buffer.

A *word* is a run of letters, digits, underscores and combining marks, case folded one character at
a time (``str.casefold`` where it gives one character, so ``ß`` stays). Scripts written without
spaces (Han, kana, Thai, Lao, Khmer, Myanmar) make every character a word. Joiners, soft hyphens and
variation selectors are as if they were not there; anything else ends a word. Texts are not
normalised: a precomposed letter and its parts differ. The classes are those of the Unicode version
of the running Python (``unicodedata.unidata_version``).

A shingle is the 64-bit hash of ``ngram`` consecutive units (words, or characters with one blank for
whatever stands between two words). A text of fewer units is one shingle: all of them. Two different
shingles of one pair of texts with ``s`` shingles share a hash with a chance of about ``s² / 2^65``
(2e-14 at 1,000), so comparing hashes is comparing shingles, unless someone builds texts against it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Literal, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
import polars as pl

from curate.core.compiled import compiled
from curate.core.texts.utf8 import decode

__all__ = ["Unit", "letters", "look", "shingle", "slices", "threads", "utf8"]

Unit: TypeAlias = Literal["word", "char"]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Offsets: TypeAlias = npt.NDArray[np.int64]

_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_SEPARATOR, _WORD, _SINGLE, _SKIPPED = range(4)
_PLANES = 0x20000  # code points that the table holds; above it whole ranges share a class
_CLASS = np.uint32(24)  # a table entry is class << 24 | folded code point
_LETTER = np.uint32(0xFFFFFF)
_START = np.uint64(0x51_7C_C1_B7_27_22_0A_95)
_TIMES = np.uint64(0x9E_37_79_B9_7F_4A_7C_15)
_BASE = np.uint64(0xD6_E8_FE_B8_66_59_FD_93)
_HALF = np.uint64(32)
_BYTES = 16 << 20

_NO_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # halfwidth kana
    (0x1B000, 0x1B16F),
)
_IGNORED = ((0xAD, 0xAD), (0x200C, 0x200D), (0x2060, 0x2060), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF))


def shingle(text: pl.Series, ngram: int, unit: Unit = "word") -> tuple[Hashes, Offsets]:
    """Shingle hashes of each text, in text order, repeats included.

    Returns the hashes one text after the other and where each text starts: text ``i`` has
    ``hashes[offsets[i]:offsets[i + 1]]``. Null, and a text without a single word, has none.
    """
    parts = list(_parts(text))
    if len(parts) == 1:
        return _shingle_part(parts[0], ngram, unit)
    with ThreadPoolExecutor(threads()) as pool:
        done = list(pool.map(lambda part: _shingle_part(part, ngram, unit), parts))
    counts = [np.diff(offsets) for _, offsets in done]
    offsets = np.concatenate([[0], *counts]).cumsum(dtype=np.int64)
    return np.concatenate([np.empty(0, np.uint64), *(values for values, _ in done)]), offsets


def slices(text: pl.Series, size: int = _BYTES) -> Iterator[slice]:
    """Row ranges of at most about ``size`` bytes of text each, at least one row."""
    ends = text.str.len_bytes().fill_null(0).cast(pl.Int64).cum_sum().to_numpy()
    start = 0
    while start < len(text):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + size, side="right")))
        yield slice(start, stop)
        start = stop


def threads() -> int:
    """Threads to use: numba's (``NUMBA_NUM_THREADS``), no more than ``OMP_NUM_THREADS``."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    return min(most, int(asked)) if asked.isdecimal() and int(asked) else most


def utf8(text: pl.Series) -> tuple[npt.NDArray[np.uint8], Offsets]:
    """The bytes of all texts, not copied, and where each text begins; null has none."""
    arrow = text.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, starts, content = arrow.buffers()
    offsets = np.frombuffer(starts, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    data = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
    return data, offsets


def _parts(text: pl.Series) -> Iterator[pl.Series]:
    for rows in slices(text):
        yield text[rows]


def _shingle_part(text: pl.Series, ngram: int, unit: Unit) -> tuple[Hashes, Offsets]:
    data, offsets = utf8(text)
    return _shingles(data, offsets, letters(), ngram, unit == "char")


@cache
def letters() -> npt.NDArray[np.uint32]:
    """Class and folded letter of each code point of the first two planes, for `look`."""
    every = [chr(code) for code in range(_PLANES)]
    kinds = np.array([unicodedata.category(letter)[0] in "LNM" for letter in every])
    kinds[ord("_")] = True
    table = np.zeros(_PLANES, np.uint32)
    at = np.flatnonzero(kinds)
    folded = [every[code].casefold() for code in at]
    table[at] = [
        ord(other) if len(other) == 1 else code
        for other, code in zip(folded, at.tolist(), strict=True)
    ]
    classes = np.where(kinds, np.uint32(_WORD), np.uint32(_SEPARATOR))
    for low, high in _NO_SPACES:
        classes[low : high + 1][kinds[low : high + 1]] = _SINGLE
    for low, high in _IGNORED:
        classes[low : high + 1], table[low : high + 1] = _SKIPPED, 0
    table |= classes << _CLASS
    table.setflags(write=False)
    return table


@compiled(inline="always")
def look(table: npt.NDArray[np.uint32], code: _Int) -> np.uint32:
    """A code point's class (0 apart, 1 word, 2 one by itself, 3 skipped) << 24, and its letter."""
    if code < 0x20000:
        return table[code]  # type: ignore[no-any-return]
    if code < 0x40000:  # Han extensions
        return np.uint32(code) | (np.uint32(2) << np.uint32(24))
    if 0xE0100 <= code <= 0xE01EF:  # variation selectors
        return np.uint32(3) << np.uint32(24)
    return np.uint32(0)


@compiled()
def _words(
    data: npt.NDArray[np.uint8], at: _Int, end: _Int, table: npt.NDArray[np.uint32], out: Hashes
) -> _Int:
    """Hash of each word of ``data[at:end]`` into ``out``; the number of words.

    Written without branches on ASCII: every byte stores the hash so far, a word's end moves on.
    """
    found: _Int = 0
    inside: _Int = 0
    so_far = _START
    while at < end:
        if data[at] < 128:
            entry = table[data[at]]
            at += 1
        else:
            code, length = decode(data, at)
            entry = look(table, code)
            at += length
            if entry >> _CLASS >= 2:
                if entry >> _CLASS == 2:
                    out[found] = so_far
                    found += inside
                    out[found] = (_START ^ np.uint64(entry & _LETTER)) * _TIMES
                    found += 1
                    inside = 0
                    so_far = _START
                continue
        out[found] = so_far
        more = (_START if inside == 0 else so_far) ^ np.uint64(entry & _LETTER)
        word = np.int64(entry >> _CLASS)
        found += inside & (1 - word)
        so_far = more * _TIMES
        inside = word
    out[found] = so_far
    return found + inside


@compiled()
def _chars(
    data: npt.NDArray[np.uint8], at: _Int, end: _Int, table: npt.NDArray[np.uint32], out: Hashes
) -> _Int:
    """Hash of each letter of ``data[at:end]``, and of one blank between words."""
    found = 0
    blank = False
    while at < end:
        code, length = decode(data, at)
        entry = look(table, code)
        at += length
        if entry >> _CLASS == 0:
            blank = found > 0
        elif entry >> _CLASS != 3:
            if blank:
                out[found] = (_START ^ np.uint64(32)) * _TIMES
                found += 1
                blank = False
            out[found] = (_START ^ np.uint64(entry & _LETTER)) * _TIMES
            found += 1
    return found


@compiled()
def _roll(units: Hashes, count: _Int, ngram: _Int, out: Hashes, at: _Int) -> _Int:
    """Hash each run of ``ngram`` units (all of them where they are fewer); where ``out`` ends now.

    A run is a polynomial of its units in ``_BASE``, then mixed; the length goes in as well.
    """
    size = min(ngram, count)
    leaves = np.uint64(1)
    for _ in range(size):
        leaves *= _BASE
    rolled = np.uint64(0)
    for i in range(count):
        unit = units[i]
        units[i] = unit = (unit ^ (unit >> _HALF)) * _TIMES
        rolled = rolled * _BASE + unit
        if i >= size:
            rolled -= units[i - size] * leaves
        if i >= size - 1:
            mixed = rolled + np.uint64(size)
            mixed = (mixed ^ (mixed >> _HALF)) * _TIMES
            out[at] = mixed ^ (mixed >> _HALF)
            at += 1
    return at


@compiled()
def _shingles(
    data: npt.NDArray[np.uint8],
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    ngram: _Int,
    chars: bool,
) -> tuple[Hashes, Offsets]:
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    units = np.empty(longest + 2, np.uint64)
    total = offsets[-1] - offsets[0]
    out = np.empty(total if chars else total // 2 + len(offsets), np.uint64)
    starts = np.zeros(len(offsets), np.int64)
    for i in range(len(offsets) - 1):
        if chars:
            count = _chars(data, offsets[i], offsets[i + 1], table, units)
        else:
            count = _words(data, offsets[i], offsets[i + 1], table, units)
        starts[i + 1] = _roll(units, count, ngram, out, starts[i])
    return out[: starts[-1]].copy(), starts
