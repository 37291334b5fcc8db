"""Which texts have a near-duplicate at all, told from half of each shingle's hash.

``J(x, y) >= t`` needs ``|x ∩ y| >= t |x|``, and for the smaller one, ``y``, even
``|x ∩ y| >= 2t / (1 + t) |y|``. So a text of which more than ``(1 - t) |x|`` shingles occur nowhere
else is out at once. The others are sorted rarest shingle first and joined on as many leading ones
as leave too few to reach that overlap (Bayardo et al. 2007, AllPairs; smaller texts are listed,
larger ones look them up), and pairs that meet are compared. All this is in 32 bits a shingle:
hashes that fall together make texts look nearer than they are, never less near. None with a
neighbour is left out, and those that are let in are compared again by whole hashes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.core.growable_array import Grown
from siftune.curate.dedup.candidate_join import Ranked, groups
from siftune.curate.dedup.count_sketch import Bytes, Halves, distinct_halves, tally
from siftune.curate.dedup.shingle_stream import Shingled
from siftune.curate.dedup.shingles import Offsets
from siftune.curate.native.jit import compiled

__all__ = ["candidates"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_CODE = np.uint32(28)  # a key is its count, up to 15, and the leading 28 bits of the hash
_CROWD = 256
_LOOKED_UP = 64


def candidates(
    texts: Shingled, threshold: Fraction, crowd: int = _CROWD
) -> tuple[Ints, Ints, Ints]:
    """Texts that seem to have a neighbour, the group of each, and texts without a shingle.

    Neighbours are in one group. Where more than ``crowd`` smaller texts would be met under one key,
    all that come there are taken for one, so that the work is bounded by texts times keys times
    ``crowd``.
    """
    found, counts = Grown(np.uint32, texts.about()), Grown(np.int64, len(texts))
    for values, offsets in texts.parts():
        halves, sizes = distinct_halves(values, offsets)
        found.add(halves)
        counts.add(sizes)
    sizes = counts.take()
    group = groups(_ranked(found.take(), sizes, threshold), threshold, crowd)
    near = np.bincount(group, minlength=len(sizes))[group] > 1
    return np.flatnonzero(near), group[near], np.flatnonzero(sizes == 0)


def _ranked(halves: Halves, sizes: Ints, share: Fraction) -> Ranked:
    """The keys of texts that may be at or above ``share`` similar to another one, in place."""
    table, shift = tally(halves)
    offsets = np.append(0, sizes.cumsum())
    ends, own = _rank(halves, offsets, table, shift, share.numerator, share.denominator)
    halves.resize(ends[-1], refcheck=False)
    return Ranked(halves, ends, sizes, own)


@compiled()
def _rank(
    values: Halves, offsets: Offsets, table: Bytes, shift: np.uint32, up: _Int, down: _Int
) -> tuple[Offsets, Ints]:
    """Make keys of what each text shares, sorted, in place; see `Ranked`."""
    ends, own = np.zeros_like(offsets), np.zeros(len(offsets) - 1, np.int64)
    end, longest = 0, 0
    for i in range(len(own)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    keys, spare = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    places = np.empty(8 * longest + 64, np.int64)
    for i in range(len(own)):
        one = values[offsets[i] : offsets[i + 1]]
        most = len(one) - (up * len(one) + down - 1) // down
        own[i] = _alone(one, table, shift, most)
        if own[i] <= most:
            kept = 0
            for at in range(len(one)):
                slot = np.int64(one[at] >> shift)
                count = (table[slot >> 1] >> ((slot & 1) * 4)) & 15
                keys[kept] = np.uint32(count) << _CODE | one[at] >> np.uint32(4)
                kept += count != 1
            _sort(keys[:kept], spare, places)
            for at in range(kept):
                if at == 0 or keys[at] != keys[at - 1]:
                    values[end] = keys[at]
                    end += 1
        ends[i + 1] = end
    return ends, own


@compiled()
def _alone(one: Halves, table: Bytes, shift: np.uint32, most: _Int) -> _Int:
    """How many are in no other text; counted no further than a stretch beyond ``most``."""
    found, start = 0, 0
    while start < len(one) and found <= most:
        part = one[start : start + _LOOKED_UP]
        for at in range(len(part)):  # without a branch, so that many are fetched at a time
            slot = np.int64(part[at] >> shift)
            found += ((table[slot >> 1] >> ((slot & 1) * 4)) & 15) == 1
        start += _LOOKED_UP
    return found


@compiled()
def _sort(keys: Halves, spare: Halves, places: Ints) -> None:
    """Sort keys: thrown into buckets by the count and some leading bits, then by insertion."""
    size = len(keys)
    if size > 16:
        bits = 0
        while (4 << bits) < size:
            bits += 1
        shift = _CODE - np.uint32(bits)
        count = 16 << bits
        places[: count + 1] = 0
        for i in range(size):
            places[np.int64(keys[i] >> shift) + 1] += 1
        for i in range(count):
            places[i + 1] += places[i]
        for i in range(size):
            bucket = np.int64(keys[i] >> shift)
            spare[places[bucket]] = keys[i]
            places[bucket] += 1
        keys[:] = spare[:size]
    for i in range(1, size):
        key = keys[i]
        at = i
        while at > 0 and keys[at - 1] > key:
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key
