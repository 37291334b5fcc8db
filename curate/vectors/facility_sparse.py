"""The pairs of rows that can still matter to facility location, and the greedy on them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import compiled
from siftune.curate.vectors.similarities import Similarities
from siftune.curate.vectors.unit_vectors import slices

__all__ = ["UNIT", "Ints", "Uncovered", "added", "uncovered"]

Ints: TypeAlias = npt.NDArray[np.int64]
Steps: TypeAlias = npt.NDArray[np.int32]

UNIT = 2.0**24
"""Similarities are counted in whole steps of 2**-24: sums are exact, so ties are ties."""

_BLOCK = 1000  # of a power of two, the rows of a transposed block would share cache lines
_ROW = 2**32 - 1
_STRETCH = 64  # so many whole steps add up in 32 bits


@dataclass(frozen=True)
class Uncovered:
    """For each row that can be picked, the rows that it would cover better than they are.

    ``first`` and ``last`` (n, blocks) bound its pairs, block of covered rows by block, in
    ``pairs``: the covered row in the lower 32 bits, above it the steps of the similarity times the
    picked row's weight. ``gains`` (n,) is what each row adds by them.
    """

    first: Ints
    last: Ints
    pairs: Ints
    gains: Ints

    def greedy(
        self, covered: Ints, costs: np.ndarray, purse: float, taken: Ints, enough: int
    ) -> tuple[Ints, Ints]:
        """Lazy greedy from ``covered`` (which is raised) on: picks in order, and their gains.

        It ends when the next pick costs more than ``purse``, or when no more than ``enough`` pairs
        are left that matter. The rows ``taken`` are not picked again. Pairs that no longer matter
        are dropped on the way: what is held is spent by one call.
        """
        open_ = np.ones(len(costs), dtype=np.bool_)
        open_[taken] = False
        now = covered.astype(np.int32)
        found = _greedy(
            self.first,
            self.last,
            self.pairs,
            self.gains,
            now,
            open_,
            costs.astype(np.float64),
            float(purse),
            enough,
        )
        covered[:] = now
        return found


def uncovered(
    similar: Similarities, weights: np.ndarray, covered: Ints, rows: Ints | None = None
) -> Uncovered:
    """The pairs ``(picked, covered)`` with ``weight · similarity`` above what covers the row now.

    What covers a row only rises, so no other pair will ever matter: a greedy that goes on from here
    needs these alone. With ``rows``, only those are covered; ``covered`` is theirs. Without, each
    product of two blocks serves both.
    """
    height = len(weights)
    count = height if rows is None else len(rows)
    blocks = len(list(slices(count, _BLOCK)))
    first, last = np.zeros((height, blocks), np.int64), np.zeros((height, blocks), np.int64)
    gains = np.zeros(height, np.int64)
    held, low, at = _room(np.empty(0, np.int64), 0), covered.astype(np.int32), 0
    for picked, block, found in _blocks(similar, rows, height, count):
        held = _room(held, at)
        start = block * _BLOCK
        part = slice(start, start + found.shape[1])
        ends = _above(found, weights[picked], low[part], start, held, at, gains[picked])
        first[picked, block], last[picked, block] = ends[:-1], ends[1:]
        at = int(ends[-1])
    return Uncovered(first, last, held[:at], gains)


def _room(held: Ints, used: int) -> Ints:
    """Room for one more block of pairs; memory that is never written to is never given."""
    if len(held) - used > _BLOCK * _BLOCK:
        return held
    more = np.empty(2 * used + 8 * _BLOCK * _BLOCK, np.int64)
    more[:used] = held[:used]
    return more


def _blocks(
    similar: Similarities, rows: Ints | None, height: int, count: int
) -> Iterator[tuple[slice, int, np.ndarray]]:
    """Rows that can be picked, the block of covered rows, and the products of the two."""
    for i, part in enumerate(slices(count, _BLOCK)):
        against = similar.against(part if rows is None else rows[part])
        for j, picked in enumerate(slices(part.stop if rows is None else height, _BLOCK)):
            found = against(picked)
            yield picked, i, found
            if rows is None and i != j:
                yield part, j, np.ascontiguousarray(found.T)


def added(products: np.ndarray, weights: np.ndarray, covered: Ints) -> Ints:
    """What each of some rows would add: the sum of the steps by which it exceeds ``covered``."""
    gains: Ints = _added(products, weights, covered.astype(np.int32))
    return gains


@compiled()
def _added(
    products: npt.NDArray[np.float32], weights: npt.NDArray[np.float64], covered: Steps
) -> Ints:  # pragma: no cover - compiled
    gains = np.zeros(len(products), np.int64)
    for i in range(products.shape[0]):
        scale, total = weights[i] * UNIT, np.int64(0)
        for j in range(products.shape[1]):
            total += max(np.int32(np.rint(products[i, j] * scale)) - covered[j], np.int32(0))
        gains[i] = total
    return gains


@compiled()
def _above(
    products: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float64],
    covered: Steps,
    offset: int,
    pairs: Ints,
    at: int,
    gains: Ints,
) -> Ints:  # pragma: no cover - compiled
    """Write the pairs above ``covered`` from ``at`` on; where each row's begin, and the end.

    What they add to each row's gain is added to ``gains``. Products are looked through a stretch at
    a time, by vector instructions: in most stretches there is nothing.
    """
    ends, own = np.empty(products.shape[0] + 1, np.int64), np.empty(_STRETCH, np.int32)
    ends[0] = at
    for i in range(products.shape[0]):
        scale = weights[i] * UNIT
        for start in range(0, products.shape[1], _STRETCH):
            some = products[i, start : start + _STRETCH]
            low = covered[start : start + _STRETCH]
            more = np.int32(0)
            for j in range(len(some)):
                own[j] = np.int32(np.rint(some[j] * scale))
                more += max(own[j] - low[j], np.int32(0))
            if more == 0:
                continue
            gains[i] += more
            for j in range(len(some)):
                # Written over where it does not count: no branch.
                pairs[at] = (np.int64(own[j]) << 32) + (offset + start + j)
                at += own[j] > low[j]
        ends[i + 1] = at
    return ends


@compiled()
def _gain(
    row: np.int64, first: Ints, last: Ints, pairs: Ints, covered: Steps
) -> np.int64:  # pragma: no cover - compiled
    """What the row adds now; where half of its pairs do not matter any more, they go."""
    total = np.int64(0)
    for block in range(first.shape[1]):
        start, stop = first[row, block], last[row, block]
        own, some, matter = pairs[start:stop], np.int64(0), np.int64(0)
        for at in range(len(own)):
            more = max((own[at] >> 32) - covered[own[at] & _ROW], 0)
            some += more
            matter += more > 0
        total += some
        if 2 * matter < len(own):
            last[row, block] = _matter(start, stop, pairs, covered)
    return total


@compiled()
def _matter(
    start: np.int64, stop: np.int64, pairs: Ints, covered: Steps
) -> np.int64:  # pragma: no cover - compiled
    """Move the pairs that still matter to the front; where they end."""
    end = start
    for at in range(start, stop):
        pair = pairs[at]
        pairs[end] = pair
        end += (pair >> 32) > covered[pair & _ROW]
    return end


@compiled()
def _greedy(
    first: Ints,
    last: Ints,
    pairs: Ints,
    gains: Ints,
    covered: Steps,
    open_: npt.NDArray[np.bool_],
    costs: npt.NDArray[np.float64],
    purse: float,
    enough: int,
) -> tuple[Ints, Ints]:  # pragma: no cover - compiled
    """Minoux 1978: a gain can only shrink, so an old one is a bound; look again at the largest."""
    heap = [(-gains[row], row, np.int64(0)) for row in np.flatnonzero(open_)]
    heapq.heapify(heap)
    picks, found = np.empty(len(heap), np.int64), np.empty(len(heap), np.int64)
    count = 0
    while len(heap):
        bound, row, seen = heap[0]
        if seen < count:
            gain = _gain(row, first, last, pairs, covered)
            heapq.heapreplace(heap, (-gain, row, np.int64(count)))
            continue
        if costs[row] > purse:
            break
        heapq.heappop(heap)
        purse -= costs[row]
        _cover(row, first, last, pairs, covered)
        picks[count], found[count] = row, -bound
        count += 1
        if enough >= 0 and _left(first, last, pairs, covered) <= enough:
            break
    return picks[:count], found[:count]


@compiled()
def _cover(
    row: np.int64, first: Ints, last: Ints, pairs: Ints, covered: Steps
) -> None:  # pragma: no cover - compiled
    for block in range(first.shape[1]):
        for at in range(first[row, block], last[row, block]):
            to = pairs[at] & _ROW
            covered[to] = max(covered[to], np.int32(pairs[at] >> 32))


@compiled()
def _left(
    first: Ints, last: Ints, pairs: Ints, covered: Steps
) -> int:  # pragma: no cover - compiled
    count = 0
    for row in range(first.shape[0]):
        for block in range(first.shape[1]):
            for at in range(first[row, block], last[row, block]):
                count += (pairs[at] >> 32) > covered[pairs[at] & _ROW]
    return count
