"""The keys under which the exact join looks for near-duplicates of shingle sets.

``J(x, y) >= t`` needs ``|x ∩ y| >= t |x|``. Hence, sorted rarest first, the leading
``|x| - ⌈t |x|⌉ + 1`` shingles of two such texts share one (Bayardo et al. 2007, AllPairs). Nothing
is estimated: no pair at or above ``t`` is missed. Which texts are worth it, `core.dedup.sieve`
tells first.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.dedup.shingle_sets import Sets
from siftune.curate.dedup.shingles import Hashes, Offsets
from siftune.curate.native.jit import compiled

__all__ = ["Keys", "exact_ratio", "prefixes"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_Bytes: TypeAlias = npt.NDArray[np.uint8]

_BYTE = np.uint64(8)
_TOP = np.uint64(56)


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
