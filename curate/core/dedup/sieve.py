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
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from curate.core.compiled import compiled
from curate.core.dedup.sets import Sets, sets_of, shared
from curate.core.dedup.shingled import Shingled
from curate.core.dedup.shingles import Offsets
from curate.core.dedup.tally import Bytes, Halves, distinct_halves, tally
from curate.core.grown import Grown

__all__ = ["candidates"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_Flags: TypeAlias = npt.NDArray[np.bool_]

_CODE = np.uint32(28)  # a key is its count, up to 15, and the leading 28 bits of the hash
_SPREAD = np.uint32(0x9E3779B1)
_CROWD = 256
_LOOKED_UP = 64


def candidates(
    texts: Shingled, threshold: Fraction, crowd: int = _CROWD
) -> tuple[Ints, Ints, Sets]:
    """Texts that seem to have a neighbour, texts without a shingle, and the sets of the former.

    All texts are read once; those that are let through, a second time. Where more than ``crowd``
    smaller texts would be met under one key, all that come there are let through unseen, so that
    the work is bounded by texts times keys times ``crowd``.
    """
    found, counts = Grown(np.uint32), Grown(np.int64)
    for values, offsets in texts.parts():
        halves, sizes = distinct_halves(values, offsets)
        found.add(halves)
        counts.add(sizes)
    sizes = counts.take()
    near = _neighboured(found.take(), sizes, threshold, crowd)
    rows: Ints = np.flatnonzero(near)
    return rows, np.flatnonzero(sizes == 0), sets_of(texts, rows)


class _Ranked(NamedTuple):
    """Of each text the keys it shares with others, rarest first; how many shingles it has in all.

    ``keys[offsets[i]:offsets[i + 1]]``; ``own`` shingles are in no other text. A text with too many
    of these has no keys. Two of a text's hashes may have fallen together in one key.
    """

    keys: Halves
    offsets: Offsets
    sizes: Ints
    own: Ints


class _Lists(NamedTuple):
    """Leading keys of texts by bucket, and the places of their texts in order of size."""

    starts: Offsets
    places: npt.NDArray[np.int32]
    keys: Halves
    shift: np.uint32


def _neighboured(halves: Halves, sizes: Ints, share: Fraction, crowd: int) -> _Flags:
    """Whether each text seems to be at or above ``share`` similar to another one."""
    up, down = share.numerator, share.denominator
    table, shift = tally(halves)
    offsets, own = _rank(halves, np.append(0, sizes.cumsum()), table, shift, up, down)
    del table
    halves.resize(offsets[-1], refcheck=False)
    ranked = _Ranked(halves, offsets, sizes, own)
    rows = np.flatnonzero(np.diff(offsets))
    order = rows[np.argsort(sizes[rows], kind="stable")]
    listed = _leading(ranked, -(-2 * up * sizes // (up + down)))
    bits = min(31, max(8, int(listed.sum()).bit_length()))
    lists = _Lists(*_list(halves, offsets, order, listed, bits), np.uint32(32 - bits))
    looked_up = _leading(ranked, -(-up * sizes // down))
    return _meet(ranked, lists, order, looked_up, up, down, crowd)


def _leading(ranked: _Ranked, needed: Ints) -> Ints:
    """How many leading keys two texts must have one of, if they share ``needed`` shingles."""
    counts = np.maximum(ranked.sizes - ranked.own - needed + 1, 0)
    fewest: Ints = np.minimum(counts, np.diff(ranked.offsets))
    return fewest


@compiled()
def _rank(
    values: Halves, offsets: Offsets, table: Bytes, shift: np.uint32, up: _Int, down: _Int
) -> tuple[Offsets, Ints]:
    """Make keys of what each text shares, sorted, in place; see `_Ranked`."""
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


@compiled()
def _list(
    keys: Halves, offsets: Offsets, order: Ints, counts: Ints, bits: _Int
) -> tuple[Offsets, npt.NDArray[np.int32], Halves]:
    """Leading keys of all texts by bucket, the smaller text first: place in ``order``, and key."""
    shift = np.uint32(32 - bits)
    starts = np.zeros((1 << bits) + 1, np.int64)
    for place in range(len(order)):
        first = offsets[order[place]]
        for at in range(first, first + counts[order[place]]):
            starts[np.int64(np.uint32(keys[at] * _SPREAD) >> shift) + 1] += 1
    for i in range(len(starts) - 1):
        starts[i + 1] += starts[i]
    fill = starts[:-1].copy()
    places, listed = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.uint32)
    for place in range(len(order)):
        first = offsets[order[place]]
        for at in range(first, first + counts[order[place]]):
            bucket = np.int64(np.uint32(keys[at] * _SPREAD) >> shift)
            places[fill[bucket]], listed[fill[bucket]] = place, keys[at]
            fill[bucket] += 1
    return starts, places, listed


@compiled()
def _meet(
    ranked: _Ranked, lists: _Lists, order: Ints, counts: Ints, up: _Int, down: _Int, crowd: _Int
) -> _Flags:
    """Look up ``counts`` keys of each text, smaller ones first, and compare with what is listed."""
    near = np.zeros(len(ranked.sizes), np.bool_)
    met = np.full(len(order), -1, np.int32)
    crowded = np.zeros(len(lists.starts) - 1, np.bool_)
    low = 0
    for place in range(len(order)):
        x = order[place]
        while ranked.sizes[order[low]] * down < up * ranked.sizes[x]:
            low += 1
        for at in range(ranked.offsets[x], ranked.offsets[x] + counts[x]):
            key = ranked.keys[at]
            bucket = np.int64(np.uint32(key * _SPREAD) >> lists.shift)
            first, last = lists.starts[bucket], lists.starts[bucket + 1]
            if last - first <= crowd:
                for entry in range(first, last):
                    other = np.int64(lists.places[entry])
                    if low <= other < place and lists.keys[entry] == key and met[other] != place:
                        met[other] = place
                        _compare(ranked, x, order[other], up, down, near)
            else:
                near[x] = True
                if not crowded[bucket]:
                    crowded[bucket] = True
                    near[order[lists.places[first:last]]] = True
    return near


@compiled()
def _compare(ranked: _Ranked, x: _Int, y: _Int, up: _Int, down: _Int, near: _Flags) -> None:
    """Both are ``near`` if they share enough keys."""
    if near[x] and near[y]:
        return
    x_start, x_end = ranked.offsets[x], ranked.offsets[x + 1]
    y_start, y_end = ranked.offsets[y], ranked.offsets[y + 1]
    x_lost = ranked.sizes[x] - ranked.own[x] - (x_end - x_start)
    y_lost = ranked.sizes[y] - ranked.own[y] - (y_end - y_start)
    both = ranked.sizes[x] + ranked.sizes[y]
    needed = (up * both + up + down - 1) // (up + down)
    needed -= min(x_lost, y_lost)  # hashes that fell together in one key
    if shared(ranked.keys, x_start, x_end, y_start, y_end, needed) >= 0:
        near[x] = near[y] = True
