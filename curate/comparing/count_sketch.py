"""Count sketch of hashes: 4-bit counters indexed by the leading bits, filled without races."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.shingles import Hashes, Offsets
from siftune.curate.native.arrays import longest
from siftune.curate.native.jit import compiled, threads

__all__ = ["Bytes", "Halves", "count_sketch", "distinct_upper_halves", "upper_halves"]

_Int: TypeAlias = int | np.int64  # in compiled code they are the same
Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Halves: TypeAlias = npt.NDArray[np.uint32]

_HALF = np.uint64(32)
_WORD, _BIT = np.uint64(6), np.uint64(63)  # shift and mask of a bit index in 64-bit words
_MIN_BATCH = 1 << 22  # hashes that are bucketed at a time
_MAX_BATCHES = 4  # the whole table is read and written in each
_REGION = 18  # bits: a region of 2**18 bytes of the table fits in the cache


def upper_halves(values: Hashes) -> Halves:
    """The upper 32 bits of each hash."""
    return (values >> _HALF).astype(np.uint32)


def count_sketch(values: Halves) -> tuple[Bytes, np.uint32]:
    """Counters up to 15, two per byte, at index ``value >> shift``; and ``shift``.

    Each thread reads all values and fills its own part of the table, so the result does not depend
    on the number of threads.
    """
    bits = min(32, max(8, (2 * len(values) - 1).bit_length()))
    table, shift = np.zeros(1 << (bits - 1), np.uint8), np.uint32(32 - bits)
    region = min(_REGION, bits - 1)
    edges = np.linspace(0, len(table) >> region, threads() + 1).astype(np.int64)
    batch = min(len(values), max(_MIN_BATCH, len(values) // _MAX_BATCHES))

    def count(low: int, high: int) -> None:
        # Allocated here: numpy asks for huge pages, compiled code does not.
        _count(values, table, shift, region, low, high, np.empty(batch, np.uint32))

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(count, edges[:-1].tolist(), edges[1:].tolist()))
    return table, shift


@compiled()
def _count(
    values: Halves,
    table: Bytes,
    shift: np.uint32,
    region: _Int,
    low: _Int,
    high: _Int,
    slots: Halves,
) -> None:
    """Count the values whose region of the table is one of ``low:high``.

    ``len(slots)`` values at a time are bucketed by region first, so that the part of the table that
    is written stays in the cache.
    """
    ends = np.empty(high - low + 1, np.int64)
    for start in range(0, len(values), max(1, len(slots))):
        stop = min(start + len(slots), len(values))
        ends[:] = 0
        for i in range(start, stop):
            at = np.int64(values[i] >> shift) >> (1 + region)
            if low <= at < high:
                ends[at - low + 1] += 1
        for i in range(high - low):
            ends[i + 1] += ends[i]
        some = ends[high - low]
        for i in range(start, stop):
            slot = values[i] >> shift
            at = np.int64(slot) >> (1 + region)
            if low <= at < high:
                slots[ends[at - low]] = slot
                ends[at - low] += 1
        for i in range(some):
            at, place = np.int64(slots[i]) >> 1, (np.int64(slots[i]) & 1) * 4
            seen = (np.int64(table[at]) >> place) & 15
            table[at] = np.uint8(np.int64(table[at]) + ((seen < 15) << place))


@compiled()
def distinct_upper_halves(values: Hashes, offsets: Offsets) -> tuple[Halves, Ints]:
    """The upper halves of the distinct hashes of each text, and the number of these (n,)."""
    most = _table_size(longest(offsets))
    once, twice = np.zeros(most >> 2, np.uint64), np.zeros(most >> 2, np.uint64)
    seen, seen_by = np.zeros(most, np.uint64), np.full(most, -1, np.int32)
    out, sizes = np.empty(len(values), np.uint32), np.zeros(len(offsets) - 1, np.int64)
    end = 0
    for i in range(len(sizes)):
        text = values[offsets[i] : offsets[i + 1]]
        slots = _table_size(len(text))
        words = slots >> 2
        _set_bits(text, once[:words], twice[:words])
        before = end
        for value in text:
            word = np.int64(value >> _WORD) & (words - 1)
            if twice[word] >> (value & _BIT) & np.uint64(1):
                slot = np.int64(value & np.uint64(slots - 1))
                while seen_by[slot] == i and seen[slot] != value:
                    slot = (slot + 1) & (slots - 1)
                if seen_by[slot] == i:
                    continue
                seen_by[slot], seen[slot] = i, value
            out[end] = np.uint32(value >> _HALF)
            end += 1
        sizes[i] = end - before
    return out[:end], sizes


@compiled()
def _table_size(count: _Int) -> _Int:
    """The least power of two that is at least 64 and twice ``count``."""
    size = 64
    while size < 2 * count:
        size *= 2
    return size


@compiled()
def _set_bits(text: Hashes, once: Hashes, twice: Hashes) -> None:
    """Set a bit per hash in ``once``, and in ``twice`` where it was set already.

    A hash whose bit in ``twice`` is 0 occurs once. Nearly all do and need no lookup.
    """
    once[:], twice[:] = 0, 0
    for value in text:
        word, bit = np.int64(value >> _WORD) & (len(once) - 1), np.uint64(1) << (value & _BIT)
        twice[word] |= once[word] & bit
        once[word] |= bit
