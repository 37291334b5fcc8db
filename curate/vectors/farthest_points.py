"""Farthest-first selection (k-center, MMR): the step-by-step greedy, computed in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siftune.curate.native.jit import compiled
from siftune.curate.vectors.nearest_centers import NearestCenters
from siftune.curate.vectors.unit_vectors import exact_products, slack, slices

__all__ = ["Centres", "PickValue", "farthest_first"]

_CANDIDATES = 1024


@dataclass(frozen=True)
class Centres:
    """Centres in the order they were picked, and the nearest centre of each vector.

    ``picks`` (k,) indexes the vectors; ``reach`` (k,) is the distance at which each was picked
    (the first: infinite); ``nearest`` (n,) indexes ``picks``; ``distance`` (n,) is the distance to
    it. Distances are half the squared Euclidean ones: one minus the cosine.
    """

    picks: np.ndarray
    reach: np.ndarray
    nearest: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True)
class PickValue:
    """Value of a row as the next pick: ``score + weight * gap``; ``score`` is 0 in k-center."""

    score: np.ndarray
    weight: float

    def among(self, rows: np.ndarray) -> PickValue:
        """A copy for ``rows`` alone."""
        return PickValue(self.score[rows], self.weight)

    def of(self, gaps: np.ndarray) -> np.ndarray:
        """The values of the rows at their distances to the picks."""
        result: np.ndarray = self.score + self.weight * gaps
        return result


def farthest_first(
    units: np.ndarray,
    first: int,
    costs: np.ndarray,
    limit: float,
    gpu: bool = False,
    value: PickValue | None = None,
) -> Centres:
    """Pick the vector farthest from those picked, from ``first`` on, until the budget is spent.

    ``units`` (n, d) are vectors on the grid (`unit_vectors.GRID`); of equally far ones the first is
    picked. ``limit`` is the total that ``costs`` (n,) may reach. Gonzalez 1985: within twice the
    best possible radius. With ``value`` the row of the largest value is picked; a value can only
    fall as more rows are picked, which is all that the algorithm needs.

    One pick changes little: the next picks are mostly among the rows that are farthest now. So the
    greedy continues among the 1,024 farthest rows in exact arithmetic until a row outside could be
    farther than the best inside; then all rows are compared with the new centres in one matrix
    product. Its float32 result is used within its error bound: rows that cannot be separated from
    the 1,024 are candidates too. In tight groups these may be all rows, which is the step-by-step
    greedy. The picks are always those of the step-by-step greedy in exact arithmetic.
    """
    value = value or PickValue(np.zeros(len(units)), 1.0)
    greedy = _Greedy(units, costs, limit, value, gpu)
    if costs[first] <= limit:
        greedy.pick(first, np.inf)
        greedy.update_all()
        while greedy.advance():
            greedy.update_all()
        greedy.update_all()
    return greedy.centres()


class _Greedy:
    """State of the traversal; a ``gap`` is half a squared distance."""

    def __init__(
        self, units: np.ndarray, costs: np.ndarray, limit: float, value: PickValue, gpu: bool
    ) -> None:
        self._units, self._costs, self._left, self._worth = units, costs, limit, value
        self._all = NearestCenters(units, gpu)
        self._picks: list[int] = []
        self._reach: list[float] = []
        self._open = np.ones(len(units), dtype=bool)
        self._gap = np.full(len(units), np.inf)  # exact, to the first `_upto` centres
        self._upto = np.zeros(len(units), dtype=np.int32)
        self._updated = 0
        self._slack = value.weight * slack(units.shape[1]) + 1e-12

    def pick(self, row: int, gap: float) -> bool:
        """Take a row as the next centre; False if it costs more than is left."""
        if self._costs[row] > self._left:
            return False
        self._left -= self._costs[row]
        self._picks.append(row)
        self._reach.append(gap)
        self._open[row] = False
        return True

    def update_all(self) -> None:
        """Compare all rows with the centres picked since the last call."""
        fresh = self._picks[self._updated :]
        if fresh:
            self._all.add(self._units[fresh])
        self._updated = len(self._picks)

    def advance(self) -> bool:
        """Pick among the farthest rows until one outside could win; False if nothing is left."""
        rows, bound = self._candidates()
        if not len(rows):
            return False
        self._update_exact(rows)
        if self._gap[rows].any():
            return self._pick_among(rows, bound)
        return self._pick_duplicates(rows, bound)

    def centres(self) -> Centres:
        """The picks, and the nearest pick of each row."""
        picks = np.array(self._picks, dtype=np.int64)
        if not len(picks):
            none = np.full(len(self._units), -1, dtype=np.int32)
            return Centres(picks, np.empty(0), none, np.full(len(self._units), np.inf))
        nearest, distance = self._all.resolve(self._units[picks])
        return Centres(picks, np.array(self._reach), nearest, distance)

    def _candidates(self) -> tuple[np.ndarray, float]:
        """The farthest rows in index order, and an upper bound of the values of all others.

        The margin below the last candidate makes sure that the farthest row of all is inside and
        above the bound: every call of `advance` picks at least one.
        """
        still = np.flatnonzero(self._open)
        if len(still) <= _CANDIDATES:
            return still, -np.inf
        value = self._worth.among(still).of(self._all.gap[still])
        last = np.partition(value, len(still) - _CANDIDATES)[len(still) - _CANDIDATES]
        limit = float(last) - 3 * self._slack
        inside = still[value > limit]
        return inside, -np.inf if len(inside) == len(still) else limit + self._slack

    def _update_exact(self, rows: np.ndarray) -> None:
        """Update the exact gaps of ``rows``."""
        for upto in np.unique(self._upto[rows]):
            behind = rows[self._upto[rows] == upto]
            centres = self._units[self._picks[upto:]]
            for part in slices(len(behind), 1024) if len(centres) else ():
                some = behind[part]
                found = _gaps(self._units[some], centres).min(axis=1)
                self._gap[some] = np.minimum(self._gap[some], found)
        self._upto[rows] = len(self._picks)

    def _pick_among(self, rows: np.ndarray, bound: float) -> bool:
        gaps, value, going = self._gap[rows], self._worth.among(rows), True
        while going and gaps.any():
            values = value.of(gaps)
            best = int(np.argmax(values))
            if values[best] <= bound:
                break
            going = self.pick(int(rows[best]), float(gaps[best]))
            if going:
                value.score[best] = -np.inf
                _approach(self._units, rows, self._units[rows[best]].astype(np.float64), gaps)
        self._gap[rows] = gaps
        self._upto[rows] = len(self._picks)
        return going

    def _pick_duplicates(self, rows: np.ndarray, bound: float) -> bool:
        """Pick all rows above the bound, in order: their gaps are 0 and do not change."""
        value = self._worth.among(rows).of(self._gap[rows])
        order = np.argsort(-value, kind="stable")
        above = order[value[order] > bound]
        return all(self.pick(int(rows[at]), 0.0) for at in above)


def _gaps(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Half the squared distances (n, m), exact."""
    products = exact_products(left, right)
    squares = [np.sum(side.astype(np.float64) ** 2, axis=1) / 2 for side in (left, right)]
    found: np.ndarray = squares[0][:, None] + squares[1] - products
    return found


def _approach_in_numpy(
    units: np.ndarray, rows: np.ndarray, centre: np.ndarray, gaps: np.ndarray
) -> None:
    for part in slices(len(rows), 1024):
        apart = units[rows[part]] - centre
        gaps[part] = np.minimum(gaps[part], np.sum(apart * apart, axis=1) / 2)


@compiled(fastmath={"reassoc", "contract"}, plain=_approach_in_numpy)
def _approach(
    units: np.ndarray, rows: np.ndarray, centre: np.ndarray, gaps: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Lower the ``gaps`` of ``rows`` to those to a centre; exact in any order of summation.

    Entries are converted to float64 one by one: a copy of all candidates could be twice as large as
    the vectors.
    """
    for i in range(len(rows)):
        row, total = units[rows[i]], 0.0
        for k in range(len(centre)):
            apart = row[k] - centre[k]
            total += apart * apart
        gaps[i] = min(gaps[i], total / 2)
