"""Keep the rows that no other row beats in all of several scores: Pareto fronts, best first."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import ColumnExpression
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.decisions import decide, tie_order
from siftune.curate.rows.expressions import needs_of, reads_of, scores

__all__ = ["Pareto"]


@dataclass(frozen=True, kw_only=True)
class Pareto(Budget):
    """Non-dominated sorting by several scores; NSGA-II, Deb et al. 2002, doi:10.1109/4235.996017.

    A row dominates another if it is at least as good in every score and better in one. The first
    front is the rows that none dominates, the second those that only rows of the first dominate,
    and so on. Fronts are kept whole until the budget is spent; of the last one those with the
    largest crowding distance (the sum over the scores of the gap between the next smaller and the
    next larger value of the front, as a share of the front's range; without end at the ends; 0 of
    a row whose scores are all those of another one), then of the smaller digest. No weights of the
    scores are needed, and their scales do not matter to the fronts.

    A larger score is better; write a minus before one that should be small: ``-length_words``. A
    row that lacks a score, or has an infinite one, is ``not_scored``. A row that is not kept is
    ``dominated``, or ``over_budget`` where the last front is cut. Detail: the ``front`` (from 1)
    and the ``crowding`` distance (null at the ends).

    Not for two scores that measure the same, nor more than some four: then most rows are in the
    first front.

    Options:
        by: Scores, with commas between: columns or expressions of columns, larger is better.
    """

    by: tuple[ColumnExpression, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.by:
            raise UsageError("pareto: by: expected one score or more, got none")

    @property
    def needs(self) -> tuple[str, ...]:
        """The scores, and the columns that count and group."""
        return (*needs_of(*self.by), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same columns, as numbers and groups."""
        return (*(read for one in self.by for read in reads_of(one)), *super().reads)

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        values = np.stack([scores(table, one).cast(pl.Float64).to_numpy() for one in self.by], 1)
        usable = np.isfinite(values).all(axis=1) & self.known(table)
        front, crowding = _sorted(table, values, usable)
        order = tie_order(table, pl.Series(-front), pl.Series(crowding))
        keep = np.zeros(table.height, dtype=bool)
        keep[self.take(table, order[usable[order]])] = True
        reasons = np.select(
            [~usable, keep, front > front[keep].max(initial=1)],
            ["not_scored", "selected", "dominated"],
            "over_budget",
        )
        known = (front > 0) & np.isfinite(crowding)
        particulars = {"front": front, "crowding": np.where(known, crowding, np.nan)}
        frame = pl.DataFrame(particulars).select(
            front=pl.when(pl.col("front") > 0).then("front"),
            crowding=pl.col("crowding").fill_nan(None),
        )
        return decide(keep, reasons.tolist(), frame)


def _sorted(
    table: pl.DataFrame, values: np.ndarray, usable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The front of each usable row, from 1, and its crowding distance; 0 of all others."""
    front, crowding = np.zeros(table.height, dtype=np.int64), np.zeros(table.height)
    rows = tie_order(table)
    rows = rows[usable[rows]]
    points, first, same = np.unique(
        values[rows] + 0.0, axis=0, return_index=True, return_inverse=True
    )
    fronts = _fronts(points)
    front[rows] = fronts[same.reshape(-1)] + 1
    crowding[rows[first]] = _crowding(points, fronts)  # the first of equal rows, by digest
    return front, crowding


def _fronts(points: np.ndarray) -> np.ndarray:
    """The front of each of (n, m) distinct points, from 0.

    Points are visited in lexical order, so that what dominates one comes before it. If no point of
    a front dominates it, none of a later front does: the first such front, which is its own, is
    found by bisection (ENS, Zhang et al. 2015, doi:10.1109/TEVC.2014.2308305).
    """
    found = np.zeros(len(points), dtype=np.int64)
    fronts: list[_Front] = []
    for at in np.lexsort(points.T[::-1])[::-1]:
        found[at] = _place(fronts, points[at, 1:])
    return found


def _place(fronts: list[_Front], point: np.ndarray) -> int:
    """Add the point to the first front that does not dominate it, a new one if need be."""
    place = bisect_left(fronts, True, key=lambda front: not front.dominates(point))
    if place == len(fronts):
        fronts.append(_Front(point))
    else:
        fronts[place].add(point)
    return place


class _Front:
    """Points of one front without their first value, in an array that doubles as it fills."""

    def __init__(self, point: np.ndarray) -> None:
        self._points, self._height = point[None].repeat(4, axis=0), 1

    def add(self, point: np.ndarray) -> None:
        """Add a point that none of the front dominates."""
        if self._height == len(self._points):
            self._points = np.concatenate([self._points, self._points])
        self._points[self._height] = point
        self._height += 1

    def dominates(self, point: np.ndarray) -> bool:
        """Whether a point of the front, no smaller in its first value, dominates ``point``."""
        if len(point) == 1:  # the last one added is the largest: else it would be dominated
            return bool(self._points[self._height - 1, 0] >= point[0])
        return bool((self._points[: self._height] >= point).all(axis=1).any())


def _crowding(points: np.ndarray, fronts: np.ndarray) -> np.ndarray:
    """The crowding distance of each of (n, m) distinct points within its front."""
    total = np.zeros(len(points))
    for column in range(points.shape[1]):
        order = np.lexsort((*points.T[::-1], points[:, column], fronts))
        value, front = points[order, column] / 2, fronts[order]  # no difference of halves overflows
        starts = np.flatnonzero(np.diff(front, prepend=-1))
        sizes = np.diff(np.append(starts, len(front)))
        ends = starts + sizes - 1
        width = np.repeat(value[ends] - value[starts], sizes)
        gap = np.zeros(len(value))
        gap[1:-1] = value[2:] - value[:-2]
        gap = np.divide(gap, width, out=np.zeros(len(value)), where=width > 0)
        gap[starts], gap[ends] = np.inf, np.inf
        total[order] += gap
    return total
