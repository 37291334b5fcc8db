"""DEITA's diversity filter: take rows from best to worst unless one taken is too similar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siftune.curate.native.gemm import Columns
from siftune.curate.vectors.unit_vectors import exact_products, slack, slices

__all__ = ["FilterResult", "filter_similar"]

_ROWS = 256
_KEPT = 8192


@dataclass(frozen=True)
class FilterResult:
    """``kept`` (k,) rows in the order taken; ``survivor`` (n,) the too similar kept row, or -1.

    ``similarity`` (n,) is that to the survivor. Rows from ``stopped`` on were not compared: the
    budget was spent.
    """

    kept: np.ndarray
    survivor: np.ndarray
    similarity: np.ndarray
    stopped: int


def filter_similar(
    units: np.ndarray, threshold: float, costs: np.ndarray, limit: float
) -> FilterResult:
    """Take vectors in order unless the similarity to one taken is above ``threshold``.

    ``units`` (n, d) are vectors on the grid (`unit_vectors.GRID`), best first; ``limit`` is the
    total that ``costs`` (n,) may reach. Similarity is one minus half the squared distance: the
    cosine, and exactly 1 for equal vectors. The result is that of comparing one row at a time with
    all taken before: a block of rows is compared in one float32 product, and similarities that may
    be above the threshold are computed again exactly.

    The survivor is the most similar row taken before, the better one of equals.
    """
    state = _Filter(units, threshold, costs, limit)
    for part in slices(len(units), _ROWS):
        if not state.take(part):
            break
    return state.result()


class _Filter:
    def __init__(
        self, units: np.ndarray, threshold: float, costs: np.ndarray, limit: float
    ) -> None:
        self._units, self._threshold, self._costs, self._left = units, threshold, costs, limit
        self._taken = np.empty_like(units)  # the vectors of the kept rows, packed
        self._kept = np.empty(len(units), dtype=np.int64)
        self._count = 0
        self._survivor = np.full(len(units), -1, dtype=np.int64)
        self._similarity = np.full(len(units), -np.inf)
        self._slack = slack(units.shape[1])
        self._stopped = len(units)

    def take(self, part: slice) -> bool:
        """Decide on a block of rows; False if the budget is spent."""
        block = Columns(self._units[part])
        for start in range(0, self._count, _KEPT):
            self._compare(part, block, slice(start, min(start + _KEPT, self._count)))
        for row in self._taken_of_block(np.arange(part.start, part.stop)):
            if self._costs[row] > self._left:
                self._stopped = int(row)
                return False
            self._left -= self._costs[row]
            self._taken[self._count] = self._units[row]
            self._kept[self._count] = row
            self._count += 1
        return True

    def result(self) -> FilterResult:
        """The result for the rows before the stop."""
        compared = np.arange(len(self._units)) < self._stopped
        dropped = compared & (self._similarity > self._threshold)
        return FilterResult(
            self._kept[: self._count].copy(),
            np.where(dropped, self._survivor, -1),
            np.where(dropped, self._similarity, np.nan),
            self._stopped,
        )

    def _compare(self, part: slice, block: Columns, kept: slice) -> None:
        """Update the survivors of a block by some kept rows that may be above the threshold."""
        column, at = block.above(self._taken[kept], self._threshold - self._slack)
        rows = part.start + at
        found = _similarities(self._units[rows], self._taken[kept][column])
        order = np.lexsort((column, -found, rows))
        rows, first = np.unique(rows[order], return_index=True)
        found, column = found[order][first], column[order][first]
        closer = found > self._similarity[rows]
        self._similarity[rows[closer]] = found[closer]
        self._survivor[rows[closer]] = self._kept[kept.start + column[closer]]

    def _taken_of_block(self, rows: np.ndarray) -> np.ndarray:
        """The rows of a block that are taken after they are compared with each other."""
        block = self._units[rows]
        halves = np.sum(block.astype(np.float64) ** 2, axis=1) / 2
        similar = 1 - (halves[:, None] + halves - exact_products(block, block))
        free = self._similarity[rows] <= self._threshold
        before = np.tril(similar > self._threshold, -1)
        for i in np.flatnonzero(before.any(axis=1)):
            rivals = np.where(free[:i], similar[i, :i], -np.inf)
            best = int(np.argmax(rivals))
            if rivals[best] > max(self._threshold, self._similarity[rows[i]]):
                free[i] = False
                self._survivor[rows[i]] = rows[best]
                self._similarity[rows[i]] = rivals[best]
        taken: np.ndarray = rows[free]
        return taken


def _similarities(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Similarity of each row of ``left`` to the same row of ``right``, exact."""
    found = np.empty(len(left))
    for part in slices(len(left)):
        apart = left[part].astype(np.float64) - right[part]
        found[part] = 1 - np.sum(apart * apart, axis=1) / 2
    return found
