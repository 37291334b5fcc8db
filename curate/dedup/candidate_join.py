"""Texts in groups: two that seem to be near-duplicates are in one, those that nobody meets alone.

Every text has some leading keys, of which it must have one in common with any near-duplicate.
Those of the smaller texts are listed by key, the larger ones look theirs up, and what meets is
compared. A group is what is held together by such pairs; few have more than two members.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.dedup.count_sketch import Halves
from siftune.curate.dedup.shingle_sets import shared
from siftune.curate.dedup.shingles import Hashes, Offsets
from siftune.curate.native.jit import compiled

__all__ = ["Ranked", "groups"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_SPREAD = np.uint32(0x9E3779B1)
_HALF = np.uint64(32)
_LOWER = np.uint64(0xFFFFFFFF)


class Ranked(NamedTuple):
    """Of each text the keys it shares with others, rarest first; how many shingles it has in all.

    ``keys[offsets[i]:offsets[i + 1]]``; ``own`` shingles are in no other text. A text with too many
    of these has no keys. Two of a text's hashes may have fallen together in one key.
    """

    keys: Halves
    offsets: Offsets
    sizes: Ints
    own: Ints


class _Leading(NamedTuple):
    """The keys that a text looks up, and of these the first ``listed``, smaller texts first.

    Place ``p`` is text ``order[p]``, of size ``sizes[p]``, with ``keys[starts[p]:starts[p + 1]]``.
    They lie together, so that what is read text by text is not fetched from all over the memory.
    """

    keys: Halves
    starts: Offsets
    listed: Ints
    sizes: Ints
    order: Ints


class _Lists(NamedTuple):
    """Listed keys by bucket: the key in the upper half of an entry, a place in the lower one."""

    starts: npt.NDArray[np.uint32]
    entries: Hashes
    shift: np.uint32


def groups(ranked: Ranked, share: Fraction, crowd: int) -> Ints:
    """A text of each text's group: all that seem ``share`` similar are in one.

    Where more than ``crowd`` texts would be met under one key, all that come there are taken for
    one group unseen.
    """
    leading = _leading(ranked, share)
    bits = min(31, max(8, int(leading.listed.sum()).bit_length()))
    # Large arrays are made here: numpy asks for huge pages, compiled code does not.
    starts = np.zeros((1 << bits) + 1, np.uint32)
    entries = np.zeros(int(leading.listed.sum()) + 1, np.uint64)  # the last one is for `_fetch`
    lists = _Lists(starts, entries, np.uint32(32 - bits))
    _list(leading, lists)
    group = np.arange(len(ranked.sizes))
    met = np.full(len(leading.order), -1, np.int32)
    _meet(ranked, leading, lists, (share.numerator, share.denominator, crowd), met, group)
    return group


def _leading(ranked: Ranked, share: Fraction) -> _Leading:
    up, down = share.numerator, share.denominator
    rows = np.flatnonzero(np.diff(ranked.offsets))
    order = rows[np.argsort(ranked.sizes[rows], kind="stable")]
    sizes = ranked.sizes[order]
    listed = _needed(ranked, order, -(-2 * up * sizes // (up + down)))
    looked_up = _needed(ranked, order, -(-up * sizes // down))
    starts = np.append(0, looked_up.cumsum())
    place = np.full(len(ranked.sizes), -1)
    place[order] = np.arange(len(order))
    keys = np.empty(starts[-1], np.uint32)
    _gather(ranked.keys, ranked.offsets, place, starts, keys)
    return _Leading(keys, starts, listed, sizes, order)


def _needed(ranked: Ranked, order: Ints, overlap: Ints) -> Ints:
    """How many leading keys two texts must have one of, if they share ``overlap`` shingles."""
    counts = np.maximum(ranked.sizes[order] - ranked.own[order] - overlap + 1, 0)
    fewest: Ints = np.minimum(counts, np.diff(ranked.offsets)[order])
    return fewest


@compiled()
def _gather(keys: Halves, offsets: Offsets, place: Ints, starts: Offsets, out: Halves) -> None:
    """The leading keys in order of size; read in order of the texts, which is quicker."""
    for x in range(len(place)):
        if place[x] >= 0:
            first, last = starts[place[x]], starts[place[x] + 1]
            out[first:last] = keys[offsets[x] : offsets[x] + last - first]


@compiled(inline="always")
def _bucket(key: np.uint32, shift: np.uint32) -> _Int:
    return np.int64(np.uint32(key * _SPREAD) >> shift)


@compiled()
def _list(leading: _Leading, lists: _Lists) -> None:
    """Fill the buckets, each with the smaller text first."""
    keys, starts, listed, _, _ = leading
    ends, entries, shift = lists
    for place in range(len(listed)):
        for at in range(starts[place], starts[place] + listed[place]):
            ends[_bucket(keys[at], shift)] += np.uint32(1)
    for i in range(1, len(ends)):
        ends[i] += ends[i - 1]
    for place in range(len(listed) - 1, -1, -1):
        for at in range(starts[place], starts[place] + listed[place]):
            bucket = _bucket(keys[at], shift)
            ends[bucket] -= np.uint32(1)
            entries[ends[bucket]] = np.uint64(keys[at]) << _HALF | np.uint64(place)


@compiled()
def _meet(
    ranked: Ranked,
    leading: _Leading,
    lists: _Lists,
    limits: tuple[_Int, _Int, _Int],
    met: npt.NDArray[np.int32],
    group: Ints,
) -> None:
    """Look up each text's keys, smaller texts first, and compare with what is listed."""
    keys, starts, _, sizes, order = leading
    up, down, crowd = limits
    crowded = np.zeros(len(lists.starts) - 1, np.bool_)
    most, low = np.max(np.append(np.diff(starts), 0)), 0
    buckets, fetched = np.empty(most, np.int64), np.empty(most, np.uint64)
    for place in range(len(order)):
        while sizes[low] * down < up * sizes[place]:
            low += 1
        mine = keys[starts[place] : starts[place + 1]]
        _fetch(lists, mine, buckets, fetched)
        for i in range(len(mine)):
            first, last = lists.starts[buckets[i]], lists.starts[buckets[i] + 1]
            found = lists.entries[first:last]
            if last - first > crowd:
                _unite_all(group, order, place, found[:1] if crowded[buckets[i]] else found)
                crowded[buckets[i]] = True
                continue
            for entry in found:
                other = np.int64(entry & _LOWER)
                same = entry >> _HALF == np.uint64(mine[i])
                if same and low <= other < place and met[other] != place:
                    met[other] = place
                    _compare(ranked, order[place], order[other], up, down, group)
    for x in range(len(group)):
        group[x] = _first(group, x)


@compiled()
def _fetch(lists: _Lists, keys: Halves, buckets: Ints, fetched: Hashes) -> None:
    """Find the buckets and touch them, all at a time: one by one each would be waited for."""
    for i in range(len(keys)):
        buckets[i] = _bucket(keys[i], lists.shift)
        fetched[i] = np.uint64(lists.starts[buckets[i]])
    for i in range(len(keys)):
        fetched[i] = lists.entries[fetched[i]]


@compiled()
def _unite_all(group: Ints, order: Ints, place: _Int, entries: Hashes) -> None:
    for entry in entries:
        _unite(group, order[place], order[np.int64(entry & _LOWER)])


@compiled()
def _first(group: Ints, x: _Int) -> _Int:
    """The text that stands for the group of ``x``."""
    while group[x] != x:
        group[x] = group[group[x]]
        x = group[x]
    return x


@compiled()
def _unite(group: Ints, x: _Int, y: _Int) -> None:
    x, y = _first(group, x), _first(group, y)
    group[max(x, y)] = min(x, y)


@compiled()
def _compare(ranked: Ranked, x: _Int, y: _Int, up: _Int, down: _Int, group: Ints) -> None:
    """Both are in one group if they share enough keys."""
    if _first(group, x) == _first(group, y):
        return
    x_start, x_end = ranked.offsets[x], ranked.offsets[x + 1]
    y_start, y_end = ranked.offsets[y], ranked.offsets[y + 1]
    x_lost = ranked.sizes[x] - ranked.own[x] - (x_end - x_start)
    y_lost = ranked.sizes[y] - ranked.own[y] - (y_end - y_start)
    both = ranked.sizes[x] + ranked.sizes[y]
    needed = (up * both + up + down - 1) // (up + down)
    needed -= min(x_lost, y_lost)  # hashes that fell together in one key
    if shared(ranked.keys, x_start, x_end, y_start, y_end, needed) >= 0:
        _unite(group, x, y)
