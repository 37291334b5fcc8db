"""Which shingle sets can have a near-duplicate at all, and under which keys to look for it.

``J(x, y) >= t`` needs ``|x ∩ y| >= t |x|``. Hence a text of which more than ``(1 - t) |x|``
shingles occur nowhere else has no near-duplicate (`candidates`: one pass over a table of hashes
seen tells for most texts); and, sorted rarest first, the leading ``|x| - ⌈t |x|⌉ + 1`` shingles of
two such texts share one (`prefixes`; Bayardo et al. 2007, AllPairs). Nothing is estimated: no pair
at or above ``t`` is missed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.core.grown import Grown
from curate.core.sets import Sets, sets_of
from curate.core.shingled import Shingled
from curate.core.shingles import Hashes, Offsets, threads

__all__ = ["Keys", "Leads", "candidates", "exact_ratio", "leading", "meeting", "prefixes"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_Bytes: TypeAlias = npt.NDArray[np.uint8]
Leads: TypeAlias = npt.NDArray[np.uint32]  # leading halves of hashes

_HALF = np.uint64(32)
_BYTE = np.uint64(8)
_TOP = np.uint64(56)
_REGIONS = 64
_STRETCH = 1 << 20


@dataclass(frozen=True)
class Keys:
    """Two texts can only be near-duplicates if they have a key in common.

    Text ``i`` has ``offsets[i + 1] - offsets[i]`` keys, from ``values[starts[i]]`` on, and ``own``
    shingles that are no part of its set because no other text has them. ``ranked``: the keys are
    the leading shingles of sets sorted rarest first.
    """

    values: Hashes
    starts: Ints
    offsets: Offsets
    own: Ints
    ranked: bool


def exact_ratio(threshold: float) -> Fraction:
    """The threshold as the fraction it was written as, so that ties are decided in integers.

    >>> exact_ratio(0.7)
    Fraction(7, 10)
    """
    return Fraction(str(threshold)).limit_denominator(10**6)


def candidates(texts: Shingled, threshold: Fraction) -> tuple[Ints, Ints, Sets]:
    """Which texts can have a neighbour, which have no shingle, and the sets of the former.

    The texts are read twice: of the first reading only half of each hash is held.
    """
    leads, sizes = Grown(np.uint32), Grown(np.int64)
    for values, offsets in texts.parts():
        leads.add(leading(values))
        sizes.add(np.diff(offsets))
    counted = sizes.take()
    rows = meeting(leads.take(), np.append(0, counted.cumsum()), threshold)
    return rows, np.flatnonzero(counted == 0), sets_of(texts, rows)


def leading(values: Hashes) -> Leads:
    """The upper halves of hashes, for `meeting`."""
    return (values >> _HALF).astype(np.uint32)


def meeting(values: Leads, offsets: Offsets, share: Fraction) -> Ints:
    """Which texts have at least that share of their values more than once among all.

    Or seem to: values are held to be one where their leading bits are. None is left out.
    """
    table, shift = _tally(values)
    return np.flatnonzero(
        _possible(values, offsets, table, shift, share.numerator, share.denominator)
    )


def prefixes(sets: Sets, threshold: Fraction) -> tuple[Sets, Keys]:
    """The sets with rare shingles first and without a text's own, and the keys they begin with.

    Done in place: the sets given are of no more use. A shingle becomes a byte for how often it
    occurs and 56 bits of its hash, so that its order as a number is the order by rarity.
    """
    bits = _bits(len(sets.values))
    table, shift = np.zeros(1 << bits, np.uint8), np.uint64(64 - bits)
    _count(sets.values, table, shift)
    offsets, own = _rank(sets.values, sets.offsets, table, shift)
    del table
    sets.values.resize(offsets[-1], refcheck=False)
    sizes = own + np.diff(offsets)
    needed = -(-threshold.numerator * sizes // threshold.denominator)
    counts = np.maximum(0, sizes - needed + 1 - own)
    ends = np.append(0, counts.cumsum())
    return Sets(sets.values, offsets), Keys(sets.values, offsets[:-1], ends, own, True)


def _bits(slots: int) -> int:
    return max(8, int(slots - 1).bit_length())


def _tally(values: Leads) -> tuple[_Bytes, np.uint32]:
    """A table of two-bit counts (0, 1, 2 or more) by the leading bits of the hash.

    Each thread reads all hashes and counts a part of the table: no races, any number of threads.
    """
    bits = min(32, _bits(4 * len(values)))
    table, shift = np.zeros(1 << (bits - 2), np.uint8), np.uint32(32 - bits)
    edges = np.linspace(0, len(table), threads() + 1).astype(np.int64)

    def count(low: int, high: int) -> None:
        _count_twice(values, table, shift, low, high)

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(count, edges[:-1].tolist(), edges[1:].tolist()))
    return table, shift


@njit(cache=True, nogil=True)
def _count_twice(values: Leads, table: _Bytes, shift: np.uint32, low: _Int, high: _Int) -> None:
    """Count those whose byte of the table is in ``low:high``.

    A stretch of hashes at a time is first thrown into 64 regions of the table, so that the part of
    it being written to stays in the cache.
    """
    region = 0
    while (len(table) >> region) > _REGIONS:
        region += 1
    slots, ends = np.empty(_STRETCH, np.uint32), np.zeros(_REGIONS + 1, np.int64)
    for start in range(0, len(values), _STRETCH):
        stop = min(start + _STRETCH, len(values))
        ends[:] = 0
        for i in range(start, stop):
            ends[(np.int64(values[i] >> shift) >> (2 + region)) + 1] += 1
        for i in range(_REGIONS):
            ends[i + 1] += ends[i]
        for i in range(start, stop):
            slot = values[i] >> shift
            at = np.int64(slot) >> (2 + region)
            slots[ends[at]] = slot
            ends[at] += 1
        for i in range(stop - start):
            at = np.int64(slots[i]) >> 2
            if low <= at < high:
                place = (np.int64(slots[i]) & 3) * 2
                seen = (np.int64(table[at]) >> place) & 3
                table[at] = np.uint8(np.int64(table[at]) + ((seen < 2) << place))


@njit(cache=True, nogil=True)
def _possible(
    values: Leads, offsets: Offsets, table: _Bytes, shift: np.uint32, up: _Int, down: int
) -> npt.NDArray[np.bool_]:
    """Whether few enough of a text's shingles are its own."""
    possible = np.zeros(len(offsets) - 1, np.bool_)
    for i in range(len(offsets) - 1):
        size = offsets[i + 1] - offsets[i]
        spare = size - (up * size + down - 1) // down
        at = offsets[i]
        while at < offsets[i + 1] and spare >= 0:
            slot = np.int64(values[at] >> shift)
            spare -= ((np.int64(table[slot >> 2]) >> ((slot & 3) * 2)) & 3) == 1
            at += 1
        possible[i] = size > 0 and spare >= 0
    return possible


@njit(cache=True, nogil=True)
def _count(values: Hashes, table: _Bytes, shift: np.uint64) -> None:
    for i in range(len(values)):
        slot = np.int64(values[i] >> shift)
        table[slot] += np.uint8(table[slot] < 255)


@njit(cache=True, nogil=True)
def _rank(
    values: Hashes,
    offsets: Offsets,
    table: _Bytes,
    shift: np.uint64,
) -> tuple[Offsets, Ints]:
    """Sort each set by rarity, then hash (as it is sorted now), and leave out a text's own."""
    ends, own = np.zeros_like(offsets), np.zeros(len(offsets) - 1, np.int64)
    place = np.empty(257, np.int64)
    end, longest = 0, 0
    for i in range(len(own)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    spare, codes = np.empty(longest, np.uint64), np.empty(longest, np.uint8)
    for i in range(len(own)):
        one = values[offsets[i] : offsets[i + 1]]
        place[:] = 0
        for at in range(len(one)):
            codes[at] = table[np.int64(one[at] >> shift)]
            place[np.int64(codes[at]) + 1] += 1
        own[i] = place[2]
        place[2] = 0
        for rarity in range(2, 256):
            place[rarity + 1] += place[rarity]
        for at in range(len(one)):
            if codes[at] > 1:
                code = np.int64(codes[at])
                spare[place[code]] = (np.uint64(code) << _TOP) | (one[at] >> _BYTE)
                place[code] += 1
        kept = len(one) - own[i]
        values[end : end + kept] = spare[:kept]
        end += kept
        ends[i + 1] = end
    return ends, own
