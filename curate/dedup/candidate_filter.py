"""Candidate filter: the texts that may have a near-duplicate, by half of each shingle's hash.

``J(x, y) >= t`` needs ``|x ∩ y| >= t |x|``, and for the smaller text ``y`` even
``|x ∩ y| >= 2t / (1 + t) |y|``. So a text with more than ``(1 - t) |x|`` shingles that occur in no
other text is dropped at once. The other texts are sorted rarest shingle first and joined on a
prefix that is long enough for any pair with that overlap to share a key (`candidate_groups`;
AllPairs, Bayardo et al. 2007); pairs with a common key are compared. All this uses 32 bits per
shingle: hash collisions make texts look more similar, never less. So no text with a near-duplicate
is lost, and the candidates are compared again by whole hashes (`group_cover`).
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.count_sketch import (
    Bytes,
    Halves,
    count_sketch,
    distinct_upper_halves,
)
from siftune.curate.comparing.shingles import Offsets, ShingleSource
from siftune.curate.core.growable_array import Grown
from siftune.curate.dedup.candidate_groups import RankedKeys, join_groups
from siftune.curate.native.arrays import put
from siftune.curate.native.jit import compiled

__all__ = ["candidates"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_COUNT_SHIFT = np.uint32(28)  # a key is its count, up to 15, and the leading 28 bits of the hash
_MOST = 15
_LEVEL_SHIFT, _LEVEL_BITS = np.uint32(23), np.uint32(5)  # of a key with that count, in its hash
_FINE_BITS = 18  # the leading bits of a hash that are its place among the counts above 15
_FINE = np.uint32(32 - _FINE_BITS)
_MAX_BUCKET = 256
_BATCH = 64


def candidates(
    texts: ShingleSource,
    threshold: Fraction,
    max_bucket: int = _MAX_BUCKET,
    *,
    common: bool = False,
) -> tuple[Ints, Ints, Ints]:
    """Texts that may have a near-duplicate, the group of each, and texts without a shingle.

    Near-duplicates are in one group. If a key is shared by more than ``max_bucket`` smaller texts,
    all texts with that key are put in one group uncompared, so that the work is bounded by texts
    times keys times ``max_bucket``. ``common``: shingles (words, not n-grams of them) occur in so
    many texts that they are also ranked by the number of bits of their count.
    """
    found, counts = Grown(np.uint32, texts.estimate()), Grown(np.int64, len(texts))
    for values, offsets in texts.batches():
        halves, sizes = distinct_upper_halves(values, offsets)
        found.add(halves)
        counts.add(sizes)
    sizes = counts.take()
    group = join_groups(_ranked(found.take(), sizes, threshold, common), threshold, max_bucket)
    near = np.bincount(group, minlength=len(sizes))[group] > 1
    return np.flatnonzero(near), group[near], np.flatnonzero(sizes == 0)


def _ranked(halves: Halves, sizes: Ints, share: Fraction, common: bool) -> RankedKeys:
    """The keys of texts that may have a similarity of ``share`` or more to another; in place."""
    table, shift = count_sketch(halves)
    offsets = np.append(0, sizes.cumsum())
    levels = _levels(halves, table, shift) if common else np.empty(0, np.uint8)
    limits = (share.numerator, share.denominator)
    ends, unshared = _rank(halves, offsets, table, shift, levels, *limits)
    halves.resize(ends[-1], refcheck=False)
    return RankedKeys(halves, ends, sizes, unshared)


@compiled()
def _levels(values: Halves, table: Bytes, shift: np.uint32) -> Bytes:
    """Bits of the number of values whose count is 15 or more, by the leading bits of the value."""
    counts = np.zeros(1 << _FINE_BITS, np.uint32)
    for i in range(len(values)):
        slot = np.int64(values[i] >> shift)
        if (table[slot >> 1] >> ((slot & 1) * 4)) & 15 == _MOST:
            counts[values[i] >> _FINE] += np.uint32(1)
    levels = np.zeros(len(counts), np.uint8)
    for at in range(len(counts)):
        while counts[at] >> levels[at]:
            levels[at] += 1
    return levels


@compiled()
def _rank(
    values: Halves,
    offsets: Offsets,
    table: Bytes,
    shift: np.uint32,
    levels: Bytes,
    up: _Int,
    down: _Int,
) -> tuple[Offsets, Ints]:
    """Sorted keys of the shared shingles of each text, in place; see `RankedKeys`."""
    ends, unshared = np.zeros_like(offsets), np.zeros(len(offsets) - 1, np.int64)
    end, longest = 0, 0
    for i in range(len(unshared)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    keys, spare = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    places = np.empty(8 * longest + 64, np.int64)
    for i in range(len(unshared)):
        one = values[offsets[i] : offsets[i + 1]]
        most = len(one) - (up * len(one) + down - 1) // down
        unshared[i] = _count_unshared(one, table, shift, most)
        if unshared[i] <= most:
            kept = 0
            for at in range(len(one)):
                slot = np.int64(one[at] >> shift)
                count = (table[slot >> 1] >> ((slot & 1) * 4)) & 15
                lower = one[at] >> np.uint32(4)
                if count == _MOST and len(levels):
                    level = np.uint32(levels[one[at] >> _FINE])
                    lower = level << _LEVEL_SHIFT | lower >> _LEVEL_BITS
                keys[kept] = np.uint32(count) << _COUNT_SHIFT | lower
                kept += count != 1
            _sort(keys[:kept], spare, places)
            for at in range(kept):
                if at == 0 or keys[at] != keys[at - 1]:
                    values[end] = keys[at]
                    end += 1
        ends[i + 1] = end
    return ends, unshared


@compiled()
def _count_unshared(one: Halves, table: Bytes, shift: np.uint32, most: _Int) -> _Int:
    """Number of shingles in no other text; counting stops soon after it is above ``most``."""
    found, start = 0, 0
    while start < len(one) and found <= most:
        part = one[start : start + _BATCH]
        for at in range(len(part)):  # no branch, so that many reads run at a time
            slot = np.int64(part[at] >> shift)
            found += ((table[slot >> 1] >> ((slot & 1) * 4)) & 15) == 1
        start += _BATCH
    return found


@compiled()
def _sort(keys: Halves, spare: Halves, places: Ints) -> None:
    """Bucket sort by the count and some leading bits, then insertion sort."""
    size = len(keys)
    if size > 16:
        bits = 0
        while (4 << bits) < size:
            bits += 1
        shift = _COUNT_SHIFT - np.uint32(bits)
        count = 16 << bits
        for i in range(count + 1):
            places[i] = 0
        for i in range(size):
            places[np.int64(keys[i] >> shift) + 1] += 1
        for i in range(count):
            places[i + 1] += places[i]
        for i in range(size):
            bucket = np.int64(keys[i] >> shift)
            spare[places[bucket]] = keys[i]
            places[bucket] += 1
        put(keys, spare[:size])
    for i in range(1, size):
        key = keys[i]
        at = i
        while at > 0 and keys[at - 1] > key:
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key
