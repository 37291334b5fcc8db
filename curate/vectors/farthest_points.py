"""Greedy picks that lie far from each other (k-center, MMR): the step-by-step answer, in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siftune.curate.native.jit import compiled
from siftune.curate.vectors.nearest_centers import Nearest
from siftune.curate.vectors.unit_vectors import exact_products, slack, slices

__all__ = ["Centres", "Worth", "farthest_first"]

_CANDIDATES = 1024


@dataclass(frozen=True)
class Centres:
    """Centres in the order they were picked, and who stands for whom.

    ``picks`` (k,) indexes the vectors; ``reach`` (k,) is the distance at which each was picked
    (the first: infinite); ``nearest`` (n,) indexes ``picks``; ``distance`` (n,) is the distance to
    it. Distances are half the squared Euclidean ones: one minus the cosine.
    """

    picks: np.ndarray
    reach: np.ndarray
    nearest: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True)
class Worth:
    """What a row is worth as the next pick: ``own + weight * gap``; k-center has no ``own``."""

    own: np.ndarray
    weight: float

    def among(self, rows: np.ndarray) -> Worth:
        """A copy for ``rows`` alone."""
        return Worth(self.own[rows], self.weight)

    def of(self, gaps: np.ndarray) -> np.ndarray:
        """The worth of the rows at their distances to the picks."""
        worth: np.ndarray = self.own + self.weight * gaps
        return worth


def farthest_first(
    units: np.ndarray,
    first: int,
    costs: np.ndarray,
    purse: float,
    gpu: bool = False,
    worth: Worth | None = None,
) -> Centres:
    """Pick the vector farthest from those picked, from ``first`` on, until the next costs too much.

    ``units`` (n, d) are vectors on the grid (`unit_vectors.GRID`); of several that are
    equally far the first is picked. Gonzalez 1985: within twice the best possible radius. With
    ``worth`` the row that is worth most is picked; it can only lose worth as more are picked, which
    is all that the following needs.

    One pick changes little: the next are mostly among the rows that are farthest now. So the
    greedy goes on among the 1,024 farthest alone, in exact arithmetic, until a row outside could
    be farther than the best inside; only then all rows are compared with the new centres, in one
    matrix product. The float32 of that product is trusted only up to its error bound: rows that it
    cannot tell from the 1,024 are candidates too. In tight groups these may be all rows, and then
    this is the step-by-step greedy itself. The picks are always those of it in exact arithmetic.
    """
    worth = worth or Worth(np.zeros(len(units)), 1.0)
    greedy = _Greedy(units, costs, purse, worth, gpu)
    if costs[first] <= purse:
        greedy.pick(first, np.inf)
        greedy.publish()
        while greedy.advance():
            greedy.publish()
        greedy.publish()
    return greedy.centres()


class _Greedy:
    """State of the traversal; ``gap`` stands for half a squared distance throughout."""

    def __init__(
        self, units: np.ndarray, costs: np.ndarray, purse: float, worth: Worth, gpu: bool
    ) -> None:
        self._units, self._costs, self._left, self._worth = units, costs, purse, worth
        self._all = Nearest(units, gpu)
        self._picks: list[int] = []
        self._reach: list[float] = []
        self._open = np.ones(len(units), dtype=bool)
        self._gap = np.full(len(units), np.inf)  # exact, to the first `_upto` centres
        self._upto = np.zeros(len(units), dtype=np.int32)
        self._published = 0
        self._slack = worth.weight * slack(units.shape[1]) + 1e-12

    def pick(self, row: int, gap: float) -> bool:
        """Take a row as the next centre, unless it costs more than is left."""
        if self._costs[row] > self._left:
            return False
        self._left -= self._costs[row]
        self._picks.append(row)
        self._reach.append(gap)
        self._open[row] = False
        return True

    def publish(self) -> None:
        """Compare all rows with the centres picked since the last time."""
        fresh = self._picks[self._published :]
        if fresh:
            self._all.add(self._units[fresh])
        self._published = len(self._picks)

    def advance(self) -> bool:
        """Pick among the farthest rows until one outside could win; False: it is over."""
        rows, bound = self._candidates()
        if not len(rows):
            return False
        self._sharpen(rows)
        if self._gap[rows].any():
            return self._pick_among(rows, bound)
        return self._pick_settled(rows, bound)

    def centres(self) -> Centres:
        """What was picked, and what stands for what."""
        picks = np.array(self._picks, dtype=np.int64)
        if not len(picks):
            nobody = np.full(len(self._units), -1, dtype=np.int32)
            return Centres(picks, np.empty(0), nobody, np.full(len(self._units), np.inf))
        nearest, distance = self._all.settle(self._units[picks])
        return Centres(picks, np.array(self._reach), nearest, distance)

    def _candidates(self) -> tuple[np.ndarray, float]:
        """The farthest rows in index order, and a worth that no row outside is above.

        The margin below the last candidate is such that the farthest row of all is inside and
        above the bound: every call of `advance` picks at least one.
        """
        still = np.flatnonzero(self._open)
        if len(still) <= _CANDIDATES:
            return still, -np.inf
        worth = self._worth.among(still).of(self._all.gap[still])
        last = np.partition(worth, len(still) - _CANDIDATES)[len(still) - _CANDIDATES]
        limit = float(last) - 3 * self._slack
        inside = still[worth > limit]
        return inside, -np.inf if len(inside) == len(still) else limit + self._slack

    def _sharpen(self, rows: np.ndarray) -> None:
        """Bring the exact gaps of ``rows`` up to date."""
        for upto in np.unique(self._upto[rows]):
            behind = rows[self._upto[rows] == upto]
            centres = self._units[self._picks[upto:]]
            for part in slices(len(behind), 1024) if len(centres) else ():
                some = behind[part]
                found = _gaps(self._units[some], centres).min(axis=1)
                self._gap[some] = np.minimum(self._gap[some], found)
        self._upto[rows] = len(self._picks)

    def _pick_among(self, rows: np.ndarray, bound: float) -> bool:
        gaps, worth, going = self._gap[rows], self._worth.among(rows), True
        while going and gaps.any():
            worths = worth.of(gaps)
            best = int(np.argmax(worths))
            if worths[best] <= bound:
                break
            going = self.pick(int(rows[best]), float(gaps[best]))
            if going:
                worth.own[best] = -np.inf
                _approach(self._units, rows, self._units[rows[best]].astype(np.float64), gaps)
        self._gap[rows] = gaps
        self._upto[rows] = len(self._picks)
        return going

    def _pick_settled(self, rows: np.ndarray, bound: float) -> bool:
        """All above the bound, in order: the gaps are 0, no pick changes them."""
        worth = self._worth.among(rows).of(self._gap[rows])
        order = np.argsort(-worth, kind="stable")
        above = order[worth[order] > bound]
        return all(self.pick(int(rows[at]), 0.0) for at in above)


def _gaps(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Half the squared distances (n, m), exact."""
    products = exact_products(left, right)
    squares = [np.sum(side.astype(np.float64) ** 2, axis=1) / 2 for side in (left, right)]
    found: np.ndarray = squares[0][:, None] + squares[1] - products
    return found


@compiled(fastmath={"reassoc", "contract"})
def _approach(
    units: np.ndarray, rows: np.ndarray, centre: np.ndarray, gaps: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Lower the ``gaps`` of ``rows`` to those to a centre; exact, in whatever order it adds up.

    It widens each entry as it goes: there may be as many candidates as rows, and a float64 copy of
    them would be twice as large as the vectors.
    """
    for i in range(len(rows)):
        row, total = units[rows[i]], 0.0
        for k in range(len(centre)):
            apart = row[k] - centre[k]
            total += apart * apart
        gaps[i] = min(gaps[i], total / 2)
