"""Prefix filter: the keys under which near-duplicate shingle sets are looked up, exactly.

``J(x, y) >= t`` needs ``|x ∩ y| >= t |x|``. Hence, sorted rarest first, the leading
``|x| - ⌈t |x|⌉ + 1`` shingles of two such texts share one (AllPairs, Bayardo et al. 2007). No pair
at or above ``t`` is missed. `candidate_filter` selects the texts first.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.shingle_sets import Sets
from siftune.curate.comparing.shingles import Hashes, Offsets
from siftune.curate.native.arrays import put
from siftune.curate.native.jit import compiled

__all__ = ["Keys", "exact_ratio", "prefix_keys"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_Bytes: TypeAlias = npt.NDArray[np.uint8]

_BYTE = np.uint64(8)
_TOP = np.uint64(56)


@dataclass(frozen=True)
class Keys:
    """Keys of texts: two texts can only be near-duplicates if they have a common key.

    Text ``i`` has ``offsets[i + 1] - offsets[i]`` keys, from ``values[starts[i]]`` on. ``unshared``
    shingles are left out of its set because no other text has them. ``ranked``: the keys are the
    leading shingles of sets sorted rarest first.
    """

    values: Hashes
    starts: Ints
    offsets: Offsets
    unshared: Ints
    ranked: bool


def exact_ratio(threshold: float) -> Fraction:
    """The threshold as a fraction, by its decimal digits, so that comparisons are exact.

    >>> exact_ratio(0.7)
    Fraction(7, 10)
    """
    return Fraction(str(threshold)).limit_denominator(10**6)


def prefix_keys(sets: Sets, threshold: Fraction) -> tuple[Sets, Keys]:
    """The sets sorted rarest first, without unshared shingles, and their leading keys.

    In place: the given sets are overwritten. A shingle becomes one byte for its count and 56 bits
    of its hash, so that the order of the numbers is the order by rarity.
    """
    bits = _bits(len(sets.values))
    table, shift = np.zeros(1 << bits, np.uint8), np.uint64(64 - bits)
    _count(sets.values, table, shift)
    offsets, unshared = _rank(sets.values, sets.offsets, table, shift)
    del table
    sets.values.resize(offsets[-1], refcheck=False)
    sizes = unshared + np.diff(offsets)
    needed = -(-threshold.numerator * sizes // threshold.denominator)
    counts = np.maximum(0, sizes - needed + 1 - unshared)
    ends = np.append(0, counts.cumsum())
    return Sets(sets.values, offsets), Keys(sets.values, offsets[:-1], ends, unshared, True)


def _bits(slots: int) -> int:
    return max(8, int(slots - 1).bit_length())


@compiled()
def _count(values: Hashes, table: _Bytes, shift: np.uint64) -> None:
    for i in range(len(values)):
        slot = np.int64(values[i] >> shift)
        table[slot] += np.uint8(table[slot] < 255)


@compiled()
def _rank(
    values: Hashes,
    offsets: Offsets,
    table: _Bytes,
    shift: np.uint64,
) -> tuple[Offsets, Ints]:
    """Sort each set by rarity, then hash (its order now), and drop unshared shingles."""
    ends, unshared = np.zeros_like(offsets), np.zeros(len(offsets) - 1, np.int64)
    place = np.empty(257, np.int64)
    end, longest = 0, 0
    for i in range(len(unshared)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    spare, codes = np.empty(longest, np.uint64), np.empty(longest, np.uint8)
    for i in range(len(unshared)):
        one = values[offsets[i] : offsets[i + 1]]
        place[:] = 0
        for at in range(len(one)):
            codes[at] = table[np.int64(one[at] >> shift)]
            place[np.int64(codes[at]) + 1] += 1
        unshared[i] = place[2]
        place[2] = 0
        for rarity in range(2, 256):
            place[rarity + 1] += place[rarity]
        for at in range(len(one)):
            if codes[at] > 1:
                code = np.int64(codes[at])
                spare[place[code]] = (np.uint64(code) << _TOP) | (one[at] >> _BYTE)
                place[code] += 1
        kept = len(one) - unshared[i]
        put(values[end : end + kept], spare[:kept])
        end += kept
        ends[i + 1] = end
    return ends, unshared
