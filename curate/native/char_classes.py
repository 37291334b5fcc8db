"""Unicode classes for shingles: separator, word character, one-character word, ignored."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import compiled

__all__ = ["char_table", "classify"]

_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_SEPARATOR, _WORD, _SINGLE, _SKIPPED = range(4)
_PLANES = 0x20000  # code points in the table; above it whole ranges share a class
_CLASS = np.uint32(24)  # a table entry is class << 24 | folded code point

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


@cache
def char_table() -> npt.NDArray[np.uint32]:
    """Class and case-folded code point of each code point of the first two planes, (131072,)."""
    chars = [chr(code) for code in range(_PLANES)]
    in_word = np.array([unicodedata.category(char)[0] in "LNM" for char in chars])
    in_word[ord("_")] = True
    table = np.zeros(_PLANES, np.uint32)
    codes = np.flatnonzero(in_word)
    folded = [chars[code].casefold() for code in codes]
    table[codes] = [
        ord(other) if len(other) == 1 else code
        for other, code in zip(folded, codes.tolist(), strict=True)
    ]
    classes = np.where(in_word, np.uint32(_WORD), np.uint32(_SEPARATOR))
    for low, high in _NO_SPACES:
        classes[low : high + 1][in_word[low : high + 1]] = _SINGLE
    for low, high in _IGNORED:
        classes[low : high + 1], table[low : high + 1] = _SKIPPED, 0
    table |= classes << _CLASS
    table.setflags(write=False)
    return table


@compiled(inline="always")
def classify(table: npt.NDArray[np.uint32], code: _Int) -> np.uint32:
    """Class of a code point << 24, or-ed with its case-folded code point.

    Classes: 0 separates words, 1 is part of a word, 2 is a word, 3 is ignored.
    """
    if code < 0x20000:
        return table[code]  # type: ignore[no-any-return]
    if code < 0x40000:  # Han extensions
        return np.uint32(code) | (np.uint32(2) << np.uint32(24))
    if 0xE0100 <= code <= 0xE01EF:  # variation selectors
        return np.uint32(3) << np.uint32(24)
    return np.uint32(0)
