"""Shingle sets: sorted distinct hashes per text; an intersection is counted by one merge.

Or it is bounded by bitmaps in which each element of a set toggles one bit: two sets differ in at
least as many elements as their bitmaps in bits (`bits_in` of the xor; Sandes et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.shingles import Hashes, Offsets, Shingles, ShingleSource
from siftune.curate.core.growable_array import Grown
from siftune.curate.native.arrays import put
from siftune.curate.native.jit import compiled

__all__ = ["Sets", "bits_in", "sets_of", "shared"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_ROWS = 1 << 14


@dataclass(frozen=True)
class Sets:
    """Sorted distinct hashes of each text: text ``i`` has ``values[offsets[i]:offsets[i + 1]]``."""

    values: Hashes
    offsets: Offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def estimate(self) -> int:
        """See `ShingleSource`."""
        return len(self.values)

    def batches(self, rows: Ints | None = None) -> Iterator[Shingles]:
        """The sets themselves; see `ShingleSource`."""
        wanted = np.arange(len(self)) if rows is None else rows
        for start in range(0, len(wanted), _ROWS):
            some = wanted[start : start + _ROWS]
            starts = self.offsets[some]
            sizes = self.offsets[some + 1] - starts
            offsets = np.concatenate([[0], sizes.cumsum()]).astype(np.int64)
            at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
            yield self.values[at], offsets


def sets_of(texts: ShingleSource, rows: Ints) -> Sets:
    """The sets of the texts with the numbers ``rows``."""
    share = len(rows) / max(1, len(texts))
    values, sizes = (
        Grown(np.uint64, int(1.2 * share * texts.estimate())),
        Grown(np.int64, len(rows)),
    )
    for hashes, offsets in texts.batches(rows):
        distinct, ends = _distinct(hashes, offsets)
        values.add(distinct)
        sizes.add(np.diff(ends))
    return Sets(values.take(), np.append(0, sizes.take().cumsum()))


@compiled()
def _sort(values: Hashes, spare: Hashes, places: Ints) -> None:
    """Sort hashes in place: bucket sort into as many buckets as values, then insertion sort."""
    size = len(values)
    if size > 24:
        bits = 5
        while (1 << bits) < size:
            bits += 1
        shift = np.uint64(64 - bits)
        places[: (1 << bits) + 1] = 0
        for i in range(size):
            places[np.int64(values[i] >> shift) + 1] += 1
        for i in range(1 << bits):
            places[i + 1] += places[i]
        for i in range(size):
            bucket = np.int64(values[i] >> shift)
            spare[places[bucket]] = values[i]
            places[bucket] += 1
        put(values, spare[:size])
    for i in range(1, size):
        value = values[i]
        at = i
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value


@compiled()
def _distinct(hashes: Hashes, starts: Offsets) -> tuple[Hashes, Offsets]:
    longest = 0
    for i in range(len(starts) - 1):
        longest = max(longest, starts[i + 1] - starts[i])
    spare, places = np.empty(longest, np.uint64), np.empty(4 * longest + 64, np.int64)
    out, ends = np.empty(len(hashes), np.uint64), np.zeros(len(starts), np.int64)
    end = 0
    for i in range(len(starts) - 1):
        size = starts[i + 1] - starts[i]
        one = out[end : end + size]
        put(one, hashes[starts[i] : starts[i + 1]])
        _sort(one, spare, places)
        kept = 0
        for j in range(size):
            if kept == 0 or one[j] != one[kept - 1]:
                one[kept] = one[j]
                kept += 1
        end += kept
        ends[i + 1] = end
    return out[:end], ends


@compiled(inline="always")
def bits_in(word: np.uint64) -> _Int:
    """Number of bits set in a word (a popcount that compilers recognise). For compiled callers."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    pairs = np.uint64(0x3333333333333333)
    word = (word & pairs) + ((word >> np.uint64(2)) & pairs)
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled()
def shared(
    values: npt.NDArray[Any], x: _Int, x_end: _Int, y: _Int, y_end: _Int, needed: _Int
) -> _Int:
    """Size of the intersection of two sorted sets; -1 as soon as it must be below ``needed``.

    The sets are ``values[x:x_end]`` and ``values[y:y_end]``. For compiled callers.
    """
    common = 0
    x_spare, y_spare = x_end - x - needed, y_end - y - needed
    if x_spare < 0 or y_spare < 0:
        return -1
    while x < x_end and y < y_end:
        a, b = values[x], values[y]
        common += a == b
        x += a <= b
        y += b <= a
        x_spare -= a < b
        y_spare -= b < a
        if x_spare < 0 or y_spare < 0:
            return -1
    return common if common >= needed else -1
