"""Whether one word is a misspelling of another, by the bytes of both."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import compiled

__all__ = ["LETTERS", "edits", "is_long", "misspells"]

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

LETTERS = 64  # bytes of a word that are compared


@compiled()
def is_long(one: _Bytes, other: _Bytes) -> bool:
    """Whether one of the words has three letters, and both are of a script with blanks.

    Otherwise one letter makes another word: *km* and *kg*, 北 and 南.
    """
    count, others = 0, 0
    for letter in one:
        count += letter & 0xC0 != 0x80
    for letter in other:
        others += letter & 0xC0 != 0x80
    return max(count, others) >= 3 and not (_has_no_blanks(one) or _has_no_blanks(other))


@compiled()
def _has_no_blanks(word: _Bytes) -> bool:
    """Thai, Lao, Burmese and Khmer; Chinese and Japanese are words of one letter."""
    if len(word) < 3:
        return False
    first, second = word[0], word[1]
    return bool(first == 0xE0 and 0xB8 <= second <= 0xBB) or bool(
        first == 0xE1 and (0x80 <= second <= 0x82 or 0x9E <= second <= 0x9F)
    )


@compiled()
def misspells(one: _Bytes, other: _Bytes, name: bool) -> bool:
    """Whether one word is a misspelling of the other."""
    shorter = min(len(one), len(other))
    if len(one) == LETTERS or len(other) == LETTERS or shorter == 0:
        return False
    count = edits(one, other)
    if name:
        return bool(count <= 1 and _same_name(one, other))
    return bool(count <= 1 or (count == 2 and shorter >= 8 and one[0] == other[0]))


@compiled()
def _same_name(one: _Bytes, other: _Bytes) -> bool:
    """Whether one edit leaves a name the same: swapped, doubled, or inside the word."""
    if len(one) > len(other):
        one, other = other, one
    if len(one) < 4:
        return False
    at = 0
    while at < len(one) and one[at] == other[at]:
        at += 1
    if len(one) == len(other):
        if at + 1 < len(one) and one[at] == other[at + 1] and one[at + 1] == other[at]:
            return True
    elif at > 0 and other[at] == other[at - 1]:
        return True
    return bool(one[0] == other[0] and one[-1] == other[-1] and len(other) >= 5)


@compiled()
def edits(one: _Bytes, other: _Bytes) -> _Int:
    """Optimal string alignment distance of two words; 3 where it is more than two."""
    if abs(len(one) - len(other)) > 2:
        return 3
    rows = np.zeros((3, len(other) + 1), np.int64)
    for j in range(len(other) + 1):
        rows[0, j] = j
    for i in range(1, len(one) + 1):
        last, row, before = rows[(i - 1) % 3], rows[i % 3], rows[(i - 2) % 3]
        row[0] = i
        for j in range(1, len(other) + 1):
            changed = last[j - 1] + (one[i - 1] != other[j - 1])
            row[j] = min(changed, last[j] + 1, row[j - 1] + 1)
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                row[j] = min(row[j], before[j - 2] + 1)
    found: _Int = min(np.int64(3), rows[len(one) % 3][len(other)])
    return found
