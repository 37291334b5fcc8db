"""The pairs of rows that can still matter to facility location, and the greedy on them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from curate.core.compiled import compiled
from curate.core.vectors.units import slices

__all__ = ["UNIT", "Ints", "Products", "Uncovered", "added", "uncovered"]

Ints: TypeAlias = npt.NDArray[np.int64]
Steps: TypeAlias = npt.NDArray[np.int32]

UNIT = 2.0**24
"""Similarities are counted in whole steps of 2**-24: sums are exact, so ties are ties."""

_BLOCK = 1000  # of a power of two, the rows of a transposed block would share cache lines
_WORTH_TORCH = 20_000


Rows: TypeAlias = slice | np.ndarray


class Products:
    """Similarities of vectors (n, d), in the type that they are given in.

    float64 on the grid is exact. float32 is multiplied on a GPU where asked, and by oneDNN where
    there are vectors enough to pay for loading torch.
    """

    def __init__(self, units: np.ndarray, gpu: bool = False) -> None:
        self.units = units
        self._gpu = gpu
        many = len(units) >= _WORTH_TORCH and find_spec("torch") is not None
        self._by_torch = units.dtype == np.float32 and (gpu or many)

    def of(self, left: Rows, right: Rows) -> np.ndarray:
        """Products (l, r) of some rows with others."""
        if not self._by_torch:
            found: np.ndarray = self.units[left] @ self.units[right].T
            return found
        import torch

        from curate.core.vectors.onednn import products

        sides = [torch.from_numpy(self.units[rows]) for rows in (left, right)]
        if self._gpu:
            sides = [side.cuda() for side in sides]
        return np.asarray(products(sides[0], sides[1]).cpu())


@dataclass(frozen=True)
class Uncovered:
    """For each row that can be picked, the rows that it would cover better than they are.

    ``first`` and ``last`` (n, blocks) bound its pairs, block of covered rows by block, in ``to``
    (the covered row) and ``steps`` (the similarity times the picked row's weight).
    """

    first: Ints
    last: Ints
    to: Steps
    steps: Steps

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
            self.to,
            self.steps,
            now,
            open_,
            costs.astype(np.float64),
            float(purse),
            enough,
        )
        covered[:] = now
        return found


def uncovered(
    products: Products, weights: np.ndarray, covered: Ints, rows: Ints | None = None
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
    held, low, at = _room(np.empty((2, 0), np.int32), 0), covered.astype(np.int32), 0
    for picked, block, found in _blocks(products, rows, height, count):
        held = _room(held, at)
        start = block * _BLOCK
        part = slice(start, start + found.shape[1])
        ends = _above(found, weights[picked], low[part], start, held[0], held[1], at)
        first[picked, block], last[picked, block] = ends[:-1], ends[1:]
        at = int(ends[-1])
    return Uncovered(first, last, held[0, :at], held[1, :at])


def _room(held: Steps, used: int) -> Steps:
    """Room for one more block of pairs; memory that is never written to is never given."""
    if held.shape[1] - used > _BLOCK * _BLOCK:
        return held
    more = np.empty((2, 2 * used + 8 * _BLOCK * _BLOCK), np.int32)
    more[:, :used] = held[:, :used]
    return more


def _blocks(
    products: Products, rows: Ints | None, height: int, count: int
) -> Iterator[tuple[slice, int, np.ndarray]]:
    """Rows that can be picked, the block of covered rows, and the products of the two."""
    for i, part in enumerate(slices(count, _BLOCK)):
        if rows is not None:
            for picked in slices(height, _BLOCK):
                yield picked, i, products.of(picked, rows[part])
            continue
        for j, picked in enumerate(slices(part.stop, _BLOCK)):
            found = products.of(picked, part)
            yield picked, i, found
            if i != j:
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
    to: Steps,
    steps: Steps,
    at: int,
) -> Ints:  # pragma: no cover - compiled
    """Write the pairs above ``covered`` from ``at`` on; where each row's begin, and the end."""
    ends = np.empty(products.shape[0] + 1, np.int64)
    ends[0] = at
    for i in range(products.shape[0]):
        scale = weights[i] * UNIT
        for j in range(products.shape[1]):
            step = np.int32(np.rint(products[i, j] * scale))
            to[at] = offset + j  # written over where it does not count: no branch
            steps[at] = step
            at += step > covered[j]
        ends[i + 1] = at
    return ends


@compiled()
def _gain(
    row: np.int64, first: Ints, last: Ints, to: Steps, steps: Steps, covered: Steps
) -> np.int64:  # pragma: no cover - compiled
    """What the row adds now; pairs that do not matter any more are dropped on the way."""
    total = np.int64(0)
    for block in range(first.shape[1]):
        kept = first[row, block]
        for at in range(first[row, block], last[row, block]):
            other, step = to[at], steps[at]
            more = step - covered[other]
            to[kept], steps[kept] = other, step
            kept += more > 0
            total += max(more, np.int32(0))
        last[row, block] = kept
    return total


@compiled()
def _greedy(
    first: Ints,
    last: Ints,
    to: Steps,
    steps: Steps,
    covered: Steps,
    open_: npt.NDArray[np.bool_],
    costs: npt.NDArray[np.float64],
    purse: float,
    enough: int,
) -> tuple[Ints, Ints]:  # pragma: no cover - compiled
    """Minoux 1978: a gain can only shrink, so an old one is a bound; look again at the largest."""
    heap = [
        (-_gain(row, first, last, to, steps, covered), row, np.int64(0))
        for row in np.flatnonzero(open_)
    ]
    heapq.heapify(heap)
    picks, gains = np.empty(len(heap), np.int64), np.empty(len(heap), np.int64)
    count = 0
    while len(heap):
        bound, row, seen = heapq.heappop(heap)
        if seen < count:
            gain = _gain(row, first, last, to, steps, covered)
            heapq.heappush(heap, (-gain, row, np.int64(count)))
            continue
        if costs[row] > purse:
            break
        purse -= costs[row]
        _cover(row, first, last, to, steps, covered)
        picks[count], gains[count] = row, -bound
        count += 1
        if enough >= 0 and _left(first, last, to, steps, covered) <= enough:
            break
    return picks[:count], gains[:count]


@compiled()
def _cover(
    row: np.int64, first: Ints, last: Ints, to: Steps, steps: Steps, covered: Steps
) -> None:  # pragma: no cover - compiled
    for block in range(first.shape[1]):
        for at in range(first[row, block], last[row, block]):
            covered[to[at]] = max(covered[to[at]], steps[at])


@compiled()
def _left(
    first: Ints, last: Ints, to: Steps, steps: Steps, covered: Steps
) -> int:  # pragma: no cover - compiled
    count = 0
    for row in range(first.shape[0]):
        for block in range(first.shape[1]):
            for at in range(first[row, block], last[row, block]):
                count += steps[at] > covered[to[at]]
    return count
