"""Facility location: rows that together are similar to all rows, by lazy greedy."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from curate.core.neighbours import Graph
from curate.core.vectors import exact_products, slices

__all__ = ["Located", "coverage", "locate_all", "locate_near"]

_UNIT = 2.0**24
"""Similarities are counted in whole steps of 2**-24: sums are exact, so ties are ties."""

_AT_ONCE = 64


@dataclass(frozen=True)
class Located:
    """``picks`` (k,) in order, and ``gains`` (k,), what each added to the coverage."""

    picks: np.ndarray
    gains: np.ndarray


class _Gains(Protocol):
    """What each row would add to the coverage, given those taken."""

    def first(self) -> np.ndarray:
        """Gains (n,) before any is taken, in whole steps."""

    def now(self, rows: list[int]) -> list[int]:
        """Gains of a few rows now."""

    def take(self, row: int) -> None:
        """Take a row."""


def locate_near(graph: Graph, weights: np.ndarray, costs: np.ndarray, purse: float) -> Located:
    """Greedy on a neighbour graph: a row is covered only by those among its neighbours.

    Maximises ``Σ_i max_{j picked} weights_j · max(0, cos(i, j))``, submodular and monotone, so at
    least 1 - 1/e of the best on the graph. Of equal gains the first row is picked; the walk ends
    when the next pick costs more than is left.
    """
    return _lazy_greedy(_Near(graph, weights), 1, costs, purse)


def locate_all(
    units: np.ndarray,
    weights: np.ndarray,
    costs: np.ndarray,
    purse: float,
    among: np.ndarray | None = None,
) -> Located:
    """The same with every pair counted, in exact arithmetic; columns are computed as needed.

    Holds the vectors once more in float64. ``among``: only these rows, ascending, can be picked.
    """
    rows = np.arange(len(units)) if among is None else among
    found = _lazy_greedy(_All(units, rows, weights[rows]), _AT_ONCE, costs[rows], purse)
    return Located(rows[found.picks], found.gains)


def coverage(units: np.ndarray, picks: np.ndarray, weights: np.ndarray) -> float:
    """``Σ_i max_{j picked} weights_j · max(0, cos(i, j))`` over all rows."""
    if not len(picks):
        return 0.0
    total = 0.0
    for part in slices(len(units), 1024):
        total += float(_steps(units[part], units[picks], weights[picks]).max(axis=1).sum())
    return total / _UNIT


def _lazy_greedy(gains: _Gains, at_once: int, costs: np.ndarray, purse: float) -> Located:
    """Minoux 1978: a gain can only shrink, so an old one is a bound; look again at the largest."""
    heap = [(-int(gain), row, 0) for row, gain in enumerate(gains.first())]
    heapq.heapify(heap)
    picks: list[int] = []
    found: list[int] = []
    while heap:
        bound, row, seen = heap[0]
        if seen == len(picks):
            if costs[row] > purse:
                break
            purse -= costs[row]
            heapq.heappop(heap)
            gains.take(row)
            picks.append(row)
            found.append(-bound)
        else:
            _look_again(heap, gains, at_once, len(picks))
    return Located(np.array(picks, dtype=np.int64), np.array(found) / _UNIT)


def _look_again(heap: list[tuple[int, int, int]], gains: _Gains, count: int, now: int) -> None:
    old = [heapq.heappop(heap) for _ in range(min(count, len(heap)))]
    rows = [row for _, row, seen in old if seen < now]
    for entry in old:
        if entry[2] == now:
            heapq.heappush(heap, entry)
    for row, gain in zip(rows, gains.now(rows), strict=True):
        heapq.heappush(heap, (-gain, row, now))


class _Near:
    def __init__(self, graph: Graph, weights: np.ndarray) -> None:
        height, count = graph.to.shape
        steps = np.rint(np.maximum(graph.similarity, 0) * weights[graph.to] * _UNIT)
        starts = np.arange(0, height * count + 1, count)
        shape = (height, height)
        table = sparse.csr_array((steps.ravel(), graph.to.ravel(), starts), shape=shape).tocsc()
        self._starts, self._rows = table.indptr, table.indices
        self._steps = table.data.astype(np.int64)
        self._covered = np.zeros(height, dtype=np.int64)

    def first(self) -> np.ndarray:
        sums = np.concatenate([[0], np.cumsum(self._steps)])
        gains: np.ndarray = sums[self._starts[1:]] - sums[self._starts[:-1]]
        return gains

    def now(self, rows: list[int]) -> list[int]:
        return [self._gain(row) for row in rows]

    def take(self, row: int) -> None:
        span = slice(self._starts[row], self._starts[row + 1])
        reached = self._rows[span]
        self._covered[reached] = np.maximum(self._covered[reached], self._steps[span])

    def _gain(self, row: int) -> int:
        span = slice(self._starts[row], self._starts[row + 1])
        return int(np.maximum(self._steps[span] - self._covered[self._rows[span]], 0).sum())


class _All:
    def __init__(self, units: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> None:
        self._wide = units.astype(np.float64)
        self._rows, self._weights = rows, weights
        self._covered = np.zeros(len(units))

    def first(self) -> np.ndarray:
        gains = [self._added(np.arange(part.start, part.stop)) for part in self._parts()]
        return np.concatenate([np.zeros(0), *gains])

    def now(self, rows: list[int]) -> list[int]:
        return [int(gain) for gain in self._added(np.array(rows))]

    def take(self, row: int) -> None:
        np.maximum(self._covered, self._column(np.array([row]))[0], out=self._covered)

    def _parts(self) -> list[slice]:
        return list(slices(len(self._rows), max(1, min(1024, 2**25 // len(self._wide)))))

    def _added(self, at: np.ndarray) -> np.ndarray:
        added = self._column(at)
        added -= self._covered
        gains: np.ndarray = np.maximum(added, 0, out=added).sum(axis=1)
        return gains

    def _column(self, at: np.ndarray) -> np.ndarray:
        """Steps of similarity between some rows that can be picked and all rows."""
        rows = self._rows[at]
        return _steps(self._wide[rows], self._wide, self._weights[at][:, None])


def _steps(left: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Similarities (n, m) in whole steps, times ``weights``: (m,) of ``right`` or (n, 1)."""
    products = exact_products(left * left.dtype.type(_UNIT), right)
    if (weights != 1).any():
        products *= weights
    np.rint(products, out=products)
    steps: np.ndarray = np.maximum(products, 0, out=products)
    return steps
