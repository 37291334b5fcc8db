"""How often hashes occur, about: four-bit counts by the leading bits, made without races."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.dedup.shingles import Hashes, Offsets
from siftune.curate.native.jit import compiled
from siftune.curate.native.threads import threads

__all__ = ["Bytes", "Halves", "distinct_halves", "halves", "tally"]

_Int: TypeAlias = int | np.int64  # in compiled code they are the same
Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Halves: TypeAlias = npt.NDArray[np.uint32]

_HALF = np.uint64(32)
_WORD, _BIT = np.uint64(6), np.uint64(63)  # where the number of a bit parts
_STRETCH = 1 << 22  # hashes, at least, that are thrown into regions at a time
_STRETCHES = 4  # at most: the whole table is read and written for each
_REGION = 18  # bits: bytes of the table that stay in the cache


def halves(values: Hashes) -> Halves:
    """The upper halves of hashes."""
    return (values >> _HALF).astype(np.uint32)


def tally(values: Halves) -> tuple[Bytes, np.uint32]:
    """A table of counts up to 15, two a byte, at ``value >> shift``; and ``shift``.

    Each thread reads all hashes and counts a part of the table: no races, any number of threads.
    """
    bits = min(32, max(8, (2 * len(values) - 1).bit_length()))
    table, shift = np.zeros(1 << (bits - 1), np.uint8), np.uint32(32 - bits)
    region = min(_REGION, bits - 1)
    edges = np.linspace(0, len(table) >> region, threads() + 1).astype(np.int64)
    room = min(len(values), max(_STRETCH, len(values) // _STRETCHES))

    def count(low: int, high: int) -> None:
        # made here: numpy asks for huge pages, compiled code does not
        _count(values, table, shift, region, low, high, np.empty(room, np.uint32))

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
    """Count those whose region of the table is one of ``low:high``.

    As many hashes as there are ``slots`` at a time are thrown into regions first, so that what is
    written to stays in the cache.
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
def distinct_halves(values: Hashes, offsets: Offsets) -> tuple[Halves, Ints]:
    """The upper halves of each text's distinct hashes, and how many these are."""
    most = _room(np.max(np.append(np.diff(offsets), 0)))
    once, twice = np.zeros(most >> 2, np.uint64), np.zeros(most >> 2, np.uint64)
    seen, turn = np.zeros(most, np.uint64), np.full(most, -1, np.int32)
    out, sizes = np.empty(len(values), np.uint32), np.zeros(len(offsets) - 1, np.int64)
    end = 0
    for i in range(len(sizes)):
        text = values[offsets[i] : offsets[i + 1]]
        room = _room(len(text))
        words = room >> 2
        _mark(text, once[:words], twice[:words])
        before = end
        for value in text:
            word = np.int64(value >> _WORD) & (words - 1)
            if twice[word] >> (value & _BIT) & np.uint64(1):
                slot = np.int64(value & np.uint64(room - 1))
                while turn[slot] == i and seen[slot] != value:
                    slot = (slot + 1) & (room - 1)
                if turn[slot] == i:
                    continue
                turn[slot], seen[slot] = i, value
            out[end] = np.uint32(value >> _HALF)
            end += 1
        sizes[i] = end - before
    return out[:end], sizes


@compiled()
def _room(size: _Int) -> _Int:
    """A power of two, at least twice the size."""
    room = 64
    while room < 2 * size:
        room *= 2
    return room


@compiled()
def _mark(text: Hashes, once: Hashes, twice: Hashes) -> None:
    """Set a bit for each hash, and in ``twice`` one for those that found theirs set.

    A hash whose bit is not there occurs once: nearly all do, and need not be sought.
    """
    once[:], twice[:] = 0, 0
    for value in text:
        word, bit = np.int64(value >> _WORD) & (len(once) - 1), np.uint64(1) << (value & _BIT)
        twice[word] |= once[word] & bit
        once[word] |= bit
