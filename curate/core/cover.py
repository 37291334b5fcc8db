"""The cover rule: which rows stay when near-duplicates go, and which of those covers a dropped one.

Rows are looked at from best to worst (a rank order: score, then content, never input order). A row
is dropped if and only if a row kept before it is at or above the threshold; it names the most
similar of these, the better one if two are equally similar. So each dropped row has a survivor at
or above the threshold and better than itself, no two survivors are at or above it, and the answer
depends on the rows alone. (One row of each connected component, the usual rule, drops rows that no
survivor resembles.)
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.core.errors import UsageError
from curate.core.jaccard import Keys
from curate.core.sets import Sets
from curate.core.shingles import Hashes, Offsets

__all__ = ["Cover", "cover_pairs", "cover_sets"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_Floats: TypeAlias = npt.NDArray[np.floating]
_SPREAD = np.uint64(0x9E_37_79_B9_7F_4A_7C_15)


class Cover(NamedTuple):
    """``survivor[i]``: the row that covers row ``i``, -1 for a kept row; and how similar it is."""

    survivor: Ints
    similarity: npt.NDArray[np.float64]


def cover_pairs(left: Ints, right: Ints, similarity: _Floats, order: Ints) -> Cover:
    """The rule on all pairs at or above the threshold.

    Args:
        left: one row of each pair.
        right: the other row; a pair is given once, in either direction.
        similarity: of each pair.
        order: row numbers, best first.
    """
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    worse, better = np.maximum(rank[left], rank[right]), np.minimum(rank[left], rank[right])
    by_worse = np.lexsort((better, -similarity, worse))
    worse, better, similarity = worse[by_worse], better[by_worse], similarity[by_worse]
    starts = np.searchsorted(worse, np.arange(len(order) + 1))
    return _unrank(_first_kept(starts, better), better, similarity, order)


def cover_sets(sets: Sets, keys: Keys, order: Ints, threshold: Fraction, fixed: int = 0) -> Cover:
    """The rule on sets at a Jaccard similarity of ``threshold``, without listing the pairs.

    Only texts with a key in common are compared. The first ``fixed`` of ``order`` stay whatever
    they resemble: a reference that the others are held against.
    """
    index = _index(sets, keys, order)
    survivor, shared, union = _cover_sets(
        index, order, fixed, threshold.numerator, threshold.denominator
    )
    return Cover(survivor, np.where(survivor >= 0, shared / union, np.nan))


def _unrank(pair: Ints, better: Ints, similarity: _Floats, order: Ints) -> Cover:
    covered = pair >= 0
    survivor = np.full(len(order), -1, np.int64)
    values = np.full(len(order), np.nan)
    survivor[order[covered]] = order[better[pair[covered]]]
    values[order[covered]] = similarity[pair[covered]]
    return Cover(survivor, values)


@njit(cache=True, nogil=True)
def _first_kept(starts: Ints, better: Ints) -> Ints:
    """For each rank the first of its pairs whose better row is kept; -1 where none is."""
    pair = np.full(len(starts) - 1, -1, np.int64)
    for row in range(len(pair)):
        for at in range(starts[row], starts[row + 1]):
            if pair[better[at]] < 0:
                pair[row] = at
                break
    return pair


@njit(cache=True, nogil=True)
def _shared(values: Hashes, x: _Int, x_end: _Int, y: _Int, y_end: _Int, needed: _Int) -> _Int:
    """How many values two sorted sets share; -1 as soon as it is below ``needed``."""
    shared = 0
    x_spare, y_spare = x_end - x - needed, y_end - y - needed
    while x < x_end and y < y_end:
        a, b = values[x], values[y]
        shared += a == b
        x += a <= b
        y += b <= a
        x_spare -= a < b
        y_spare -= b < a
        if x_spare < 0 or y_spare < 0:
            return -1
    return shared if shared >= needed else -1


@njit(cache=True, nogil=True)
def _size_classes(longest: _Int) -> Ints:
    """A class for each set size, each holding sizes within 1/8 of one another."""
    classes = np.zeros(longest + 1, np.int64)
    start, current = 1, 0
    for size in range(1, longest + 1):
        if size * 8 > start * 9:
            start, current = size, current + 1
        classes[size] = current
    return classes


class _Index(NamedTuple):
    """Kept texts in chains under (key, size class); ``owner``, ``chain`` go by place in ``keys``.

    A text so meets only those whose size and, by the place of the key, whose possible overlap allow
    the threshold.
    """

    values: Hashes
    offsets: Offsets
    keys: Hashes
    key_offsets: Offsets
    first: Ints
    classes: Ints
    heads: npt.NDArray[np.int32]
    owner: npt.NDArray[np.int32]
    chain: npt.NDArray[np.int32]
    met: Ints
    rank: Ints


def _index(sets: Sets, keys: Keys, order: Ints) -> _Index:
    count, entries = len(order), len(keys.values)
    if max(count, entries) >= 2**31:
        raise UsageError(f"{entries} keys are too many to join at once; expected below 2^31")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    heads = np.full(1 << max(8, (2 * entries).bit_length()), -1, np.int32)
    owner, chain = np.empty(entries, np.int32), np.empty(entries, np.int32)
    classes = _size_classes(int(np.diff(sets.offsets).max(initial=0)))
    met = np.full(count, -1, np.int64)
    return _Index(
        sets.values,
        sets.offsets,
        keys.values,
        keys.offsets,
        keys.first,
        classes,
        heads,
        owner,
        chain,
        met,
        rank,
    )


@njit(cache=True, nogil=True, inline="always")
def _slot(index: _Index, key: np.uint64, group: _Int) -> _Int:
    spread = (key + np.uint64(group)) * _SPREAD
    return np.int64(spread >> np.uint64(32)) & (len(index.heads) - 1)


@njit(cache=True, nogil=True)
def _hang(index: _Index, x: _Int) -> None:
    group = index.classes[index.offsets[x + 1] - index.offsets[x]]
    for at in range(index.key_offsets[x], index.key_offsets[x + 1]):
        slot = _slot(index, index.keys[at], group)
        index.owner[at], index.chain[at], index.heads[slot] = x, index.heads[slot], at


@njit(cache=True, nogil=True)
def _overlap(index: _Index, x: _Int, at: _Int, y: _Int, entry: _Int, needed: _Int) -> _Int:
    """How much two sets share that first met at these keys; -1 if below ``needed``."""
    x_end, y_end = index.offsets[x + 1], index.offsets[y + 1]
    if index.first[x] >= 0:
        x_left = x_end - index.offsets[x] - (index.first[x] + at - index.key_offsets[x])
        y_left = y_end - index.offsets[y] - (index.first[y] + entry - index.key_offsets[y])
        if min(x_left, y_left) < needed:
            return -1
    return _shared(index.values, index.offsets[x], x_end, index.offsets[y], y_end, needed)


@njit(cache=True, nogil=True)
def _closest(index: _Index, x: _Int, up: _Int, down: _Int) -> tuple[_Int, _Int, _Int]:
    """The most similar kept text at or above ``up / down``, or -1; shared shingles, union."""
    best: _Int = -1
    best_shared: _Int = 0
    best_union: _Int = 1
    size = index.offsets[x + 1] - index.offsets[x]
    smallest = (up * size + down - 1) // down
    for at in range(index.key_offsets[x], index.key_offsets[x + 1]):
        before = max(0, index.first[x] + at - index.key_offsets[x]) if index.first[x] >= 0 else 0
        largest = min((size - before) * (up + down) // up - size, len(index.classes) - 1)
        for group in range(index.classes[smallest], index.classes[max(smallest, largest)] + 1):
            entry = np.int64(index.heads[_slot(index, index.keys[at], group)])
            while entry >= 0:
                y = np.int64(index.owner[entry])
                y_size = index.offsets[y + 1] - index.offsets[y]
                new = index.keys[entry] == index.keys[at] and index.met[y] != x
                if new and smallest <= y_size <= largest:
                    index.met[y] = x
                    needed = (up * (size + y_size) + up + down - 1) // (up + down)
                    shared = _overlap(index, x, at, y, entry, needed)
                    union = size + y_size - shared
                    lead = shared * best_union - best_shared * union
                    better = lead == 0 and index.rank[y] < index.rank[best]
                    if shared >= 0 and (lead > 0 or better):
                        best, best_shared, best_union = y, shared, union
                entry = np.int64(index.chain[entry])
    return best, best_shared, best_union


@njit(cache=True, nogil=True)
def _cover_sets(
    index: _Index, order: Ints, fixed: _Int, up: _Int, down: int
) -> tuple[Ints, Ints, Ints]:
    survivor = np.full(len(order), -1, np.int64)
    shared, union = np.zeros(len(order), np.int64), np.ones(len(order), np.int64)
    for place in range(len(order)):
        x = order[place]
        if place >= fixed:
            survivor[x], shared[x], union[x] = _closest(index, x, up, down)
        if survivor[x] < 0:
            _hang(index, x)
    return survivor, shared, union
