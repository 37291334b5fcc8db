"""Candidate join: put texts that may be near-duplicates of each other into one group.

Each text has some leading keys (a prefix, rarest first) of which it must share one with any
near-duplicate. An inverted index holds the keys of the smaller texts; larger texts look up theirs,
and each pair found is compared, first by bitmaps: two sets differ in at least as many keys as their
bitmaps in bits. Pairs above the threshold are merged by union-find. Most groups have one or two
members.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.count_sketch import Halves
from siftune.curate.comparing.shingle_sets import bits_in, shared
from siftune.curate.comparing.shingles import Hashes, Offsets
from siftune.curate.native.arrays import longest, put
from siftune.curate.native.jit import compiled

__all__ = ["RankedKeys", "join_groups"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_SPREAD = np.uint32(0x9E3779B1)
_HALF = np.uint64(32)
_LOWER = np.uint64(0xFFFFFFFF)
_BITMAP = np.uint32(25)  # the leading 7 bits of a spread key are its place in a bitmap
_WORD, _BIT = np.uint64(6), np.uint64(63)  # shift and mask of a bit index in 64-bit words


class RankedKeys(NamedTuple):
    """Text ``i``: ``keys[offsets[i]:offsets[i + 1]]`` of its shared shingles, rarest first.

    ``sizes`` (n,) are all shingles of a text, ``unshared`` (n,) those in no other text. A text with
    too many of these has no keys. Two hashes of a text may have become one key.
    """

    keys: Halves
    offsets: Offsets
    sizes: Ints
    unshared: Ints


class _Prefixes(NamedTuple):
    """The keys that each text looks up, smaller texts first; ``indexed`` of them are in the index.

    Position ``p`` is text ``order[p]`` of size ``sizes[p]`` with ``keys[starts[p]:starts[p + 1]]``.
    They are stored in this order, so that they are read sequentially. ``unshared`` is that of the
    text; ``bitmaps`` (n, 2) has the parity of the number of its keys at each of 128 bits.
    """

    keys: Halves
    starts: Offsets
    indexed: Ints
    sizes: Ints
    order: Ints
    unshared: Ints
    bitmaps: Hashes


class _Index(NamedTuple):
    """Inverted index: entries by bucket, each a key (upper half) and a position (lower half)."""

    starts: npt.NDArray[np.uint32]
    entries: Hashes
    shift: np.uint32


def join_groups(ranked: RankedKeys, share: Fraction, max_bucket: int) -> Ints:
    """A representative of the group of each text (n,); texts of similarity ``share`` have the same.

    If more than ``max_bucket`` texts are in one bucket, all texts that look there are merged
    uncompared.
    """
    prefixes = _prefixes(ranked, share)
    total = int(prefixes.indexed.sum())
    bits = min(31, max(8, total.bit_length()))
    # Large arrays are allocated here: numpy asks for huge pages, compiled code does not.
    starts = np.zeros((1 << bits) + 1, np.uint32)
    entries = np.zeros(total + 1, np.uint64)  # the last one is read by `_prefetch` only
    index = _Index(starts, entries, np.uint32(32 - bits))
    _build(prefixes, index)
    parent = np.arange(len(ranked.sizes))
    compared_with = np.full(len(prefixes.order), -1, np.int32)
    limits = (share.numerator, share.denominator, max_bucket)
    _join(ranked, prefixes, index, limits, compared_with, parent)
    return parent


def _prefixes(ranked: RankedKeys, share: Fraction) -> _Prefixes:
    up, down = share.numerator, share.denominator
    rows = np.flatnonzero(np.diff(ranked.offsets))
    order = rows[np.argsort(ranked.sizes[rows], kind="stable")]
    sizes = ranked.sizes[order]
    indexed = _prefix_lengths(ranked, order, -(-2 * up * sizes // (up + down)))
    looked_up = _prefix_lengths(ranked, order, -(-up * sizes // down))
    starts = np.append(0, looked_up.cumsum())
    position = np.full(len(ranked.sizes), -1)
    position[order] = np.arange(len(order))
    keys = np.empty(starts[-1], np.uint32)
    bitmaps = np.zeros((len(order), 2), np.uint64)
    _copy_prefixes(ranked.keys, ranked.offsets, position, starts, keys, bitmaps)
    return _Prefixes(keys, starts, indexed, sizes, order, ranked.unshared[order], bitmaps)


def _prefix_lengths(ranked: RankedKeys, order: Ints, overlap: Ints) -> Ints:
    """Leading keys of which two texts share one, if they have ``overlap`` common shingles."""
    counts = np.maximum(ranked.sizes[order] - ranked.unshared[order] - overlap + 1, 0)
    lengths: Ints = np.minimum(counts, np.diff(ranked.offsets)[order])
    return lengths


@compiled()
def _copy_prefixes(
    keys: Halves, offsets: Offsets, position: Ints, starts: Offsets, out: Halves, bitmaps: Hashes
) -> None:
    """Copy the leading keys into order of size; reading in order of the texts is faster."""
    for x in range(len(position)):
        if position[x] >= 0:
            first, last = starts[position[x]], starts[position[x] + 1]
            put(out[first:last], keys[offsets[x] : offsets[x] + last - first])
            bitmap = bitmaps[position[x]]
            for key in keys[offsets[x] : offsets[x + 1]]:
                bit = np.uint64(np.uint32(key * _SPREAD) >> _BITMAP)
                bitmap[np.int64(bit >> _WORD)] ^= np.uint64(1) << (bit & _BIT)


@compiled(inline="always")
def _bucket(key: np.uint32, shift: np.uint32) -> _Int:
    return np.int64(np.uint32(key * _SPREAD) >> shift)


@compiled()
def _build(prefixes: _Prefixes, index: _Index) -> None:
    """Fill the buckets, each with the smaller text first."""
    keys, starts, indexed = prefixes[:3]
    ends, entries, shift = index
    for position in range(len(indexed)):
        for at in range(starts[position], starts[position] + indexed[position]):
            ends[_bucket(keys[at], shift)] += np.uint32(1)
    for i in range(1, len(ends)):
        ends[i] += ends[i - 1]
    for position in range(len(indexed) - 1, -1, -1):
        for at in range(starts[position], starts[position] + indexed[position]):
            bucket = _bucket(keys[at], shift)
            ends[bucket] -= np.uint32(1)
            entries[ends[bucket]] = np.uint64(keys[at]) << _HALF | np.uint64(position)


@compiled()
def _join(
    ranked: RankedKeys,
    prefixes: _Prefixes,
    index: _Index,
    limits: tuple[_Int, _Int, _Int],
    compared_with: npt.NDArray[np.int32],
    parent: Ints,
) -> None:
    """Look up the keys of each text, smaller texts first, and compare with the texts found."""
    keys, starts, _, sizes, order, _, _ = prefixes
    up, down, max_bucket = limits
    merged = np.zeros(len(index.starts) - 1, np.bool_)
    heads = index.starts.copy()  # the first entry of each bucket that is not too small by now
    most, low = longest(starts), 0
    buckets, fetched = np.empty(most, np.int64), np.empty(most, np.uint64)
    for position in range(len(order)):
        while sizes[low] * down < up * sizes[position]:
            low += 1
        own = keys[starts[position] : starts[position + 1]]
        _prefetch(index, own, heads, buckets, fetched)
        for i in range(len(own)):
            first, last = index.starts[buckets[i]], index.starts[buckets[i] + 1]
            if last - first > max_bucket:
                found = index.entries[first:last]
                _union_all(parent, order, position, found[:1] if merged[buckets[i]] else found)
                merged[buckets[i]] = True
                continue
            at = np.int64(heads[buckets[i]])
            while at < last and np.int64(index.entries[at] & _LOWER) < low:
                at += 1
            heads[buckets[i]] = np.uint32(at)
            while at < last and np.int64(index.entries[at] & _LOWER) < position:
                other = np.int64(index.entries[at] & _LOWER)
                same = index.entries[at] >> _HALF == np.uint64(own[i])
                if same and compared_with[other] != position:
                    compared_with[other] = position
                    if _may_reach(prefixes, position, other, up, down):
                        _compare(ranked, order[position], order[other], up, down, parent)
                at += 1
    for x in range(len(parent)):
        parent[x] = _find(parent, x)


@compiled()
def _prefetch(index: _Index, keys: Halves, heads: Halves, buckets: Ints, fetched: Hashes) -> None:
    """Read the buckets of all keys at once, so that their cache misses overlap."""
    for i in range(len(keys)):
        buckets[i] = _bucket(keys[i], index.shift)
        fetched[i] = np.uint64(heads[buckets[i]])
    for i in range(len(keys)):
        fetched[i] = index.entries[fetched[i]]


@compiled(inline="always")
def _may_reach(prefixes: _Prefixes, x: _Int, y: _Int, up: _Int, down: _Int) -> bool:
    """Whether the texts at two positions differ in few enough bits to be near-duplicates.

    With ``both`` hashes in all and ``needed`` common ones, ``both - 2 * needed`` may be in one text
    only; ``unshared`` ones are. Hashes that became one key make texts differ in fewer keys.
    """
    both = prefixes.sizes[x] + prefixes.sizes[y]
    needed = (up * both + up + down - 1) // (up + down)
    spare = both - 2 * needed - prefixes.unshared[x] - prefixes.unshared[y]
    different = bits_in(prefixes.bitmaps[x, 0] ^ prefixes.bitmaps[y, 0])
    different += bits_in(prefixes.bitmaps[x, 1] ^ prefixes.bitmaps[y, 1])
    return bool(different <= spare)


@compiled()
def _union_all(parent: Ints, order: Ints, position: _Int, entries: Hashes) -> None:
    for entry in entries:
        _union(parent, order[position], order[np.int64(entry & _LOWER)])


@compiled()
def _find(parent: Ints, x: _Int) -> _Int:
    """The root of ``x`` in the union-find forest."""
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@compiled()
def _union(parent: Ints, x: _Int, y: _Int) -> None:
    x, y = _find(parent, x), _find(parent, y)
    parent[max(x, y)] = min(x, y)


@compiled()
def _compare(ranked: RankedKeys, x: _Int, y: _Int, up: _Int, down: _Int, parent: Ints) -> None:
    """Merge the groups of two texts if they share enough keys."""
    if _find(parent, x) == _find(parent, y):
        return
    x_start, x_end = ranked.offsets[x], ranked.offsets[x + 1]
    y_start, y_end = ranked.offsets[y], ranked.offsets[y + 1]
    x_lost = ranked.sizes[x] - ranked.unshared[x] - (x_end - x_start)
    y_lost = ranked.sizes[y] - ranked.unshared[y] - (y_end - y_start)
    both = ranked.sizes[x] + ranked.sizes[y]
    needed = (up * both + up + down - 1) // (up + down)
    needed -= min(x_lost, y_lost)  # hashes that became one key
    if shared(ranked.keys, x_start, x_end, y_start, y_end, needed) >= 0:
        _union(parent, x, y)
