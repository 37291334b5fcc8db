"""Facility location: rows that together are similar to all rows, by lazy greedy (and GreeDi)."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from siftune.curate.native.gemm import products
from siftune.curate.vectors.facility_sparse import (
    UNIT,
    Ints,
    Similarities,
    coverage_gains,
    sparse_gains,
)
from siftune.curate.vectors.unit_vectors import exact_products, slack, slices

__all__ = ["FacilityPicks", "coverage", "facility_picks", "facility_picks_exact", "greedi"]

_BATCH = 64
_MAX_BATCH = 1024
_PROBES = 128
_SAMPLE = 8192


@dataclass(frozen=True)
class FacilityPicks:
    """``picks`` (k,) in order, and ``gains`` (k,), what each added to the coverage."""

    picks: np.ndarray
    gains: np.ndarray


def facility_picks(
    units: np.ndarray,
    weights: np.ndarray,
    costs: np.ndarray,
    limit: float,
    *,
    pairs: int = 2**23,
    sample: int | None = _SAMPLE,
    gpu: bool = False,
) -> FacilityPicks:
    """Greedy for the largest ``Σ_i max_{j picked} weights_j · max(0, cos(i, j))``, in float32.

    Submodular and monotone: at least 1 - 1/e of the best. Of equal gains the first row is picked.
    It ends when the next pick would raise the sum of ``costs`` (n,) above ``limit``.

    The coverage of a row never falls, so a pair is useful only while its similarity is above it.
    After a few picks few are: the greedy continues on the sparse matrix of these
    (`vectors.facility_sparse`), computed in one pass over all products as soon as it has at most
    ``pairs`` entries. Before that, old gains are upper bounds, and the largest are recomputed from
    the vectors. With more than ``sample`` rows, evenly spaced ones represent all until the matrix
    of all rows is small enough. Memory is O(n + pairs) beside the vectors.
    """
    height = len(units)
    rows = None
    if sample is not None and height > sample:
        rows = np.linspace(0, height - 1, sample).astype(np.int64)
    return _staged(Similarities(units, gpu), weights, costs, limit, rows, pairs)


def facility_picks_exact(
    units: np.ndarray,
    weights: np.ndarray,
    costs: np.ndarray,
    limit: float,
    among: np.ndarray | None = None,
    pairs: int = 2**23,
) -> FacilityPicks:
    """`facility_picks` of all rows from the start, in exact arithmetic: equal on any machine.

    Needs a float64 copy of the vectors. ``among``: only these rows, ascending, can be picked.
    """
    similar = Similarities(units.astype(np.float64))
    if among is None:
        return _staged(similar, weights, costs, limit, None, pairs)
    gains = _Dense(similar, weights, among, None)
    picks, found = _lazy_greedy(gains, costs[among], limit, lambda: False)
    return FacilityPicks(among[picks], found / UNIT)


def coverage(units: np.ndarray, picks: np.ndarray, weights: np.ndarray) -> float:
    """``Σ_i max_{j picked} weights_j · max(0, cos(i, j))`` over all rows."""
    if not len(picks):
        return 0.0
    total = 0.0
    for part in slices(len(units), 1024):
        steps = np.rint(exact_products(units[part], units[picks]) * (weights[picks] * UNIT))
        total += float(np.maximum(steps, 0).max(axis=1).sum())
    return total / UNIT


def _staged(
    similar: Similarities,
    weights: np.ndarray,
    costs: np.ndarray,
    limit: float,
    rows: Ints | None,
    pairs: int,
) -> FacilityPicks:
    """Greedy from the vectors, then on the sparse matrix of ``rows``, then on that of all rows."""
    height = len(weights)
    dense = _Dense(similar, weights, np.arange(height), rows)
    picks, gains = _lazy_greedy(dense, costs, limit, lambda: dense.pairs_left() <= pairs)
    covered = dense.covered
    if rows is not None:
        left = sparse_gains(similar, weights, covered, rows)
        enough = pairs * len(rows) // height
        more, _ = left.greedy(covered, costs, _rest(limit, costs, picks), picks, enough)
        picks = np.concatenate([picks, more])
        gains, covered = _coverage_of(similar, weights, picks)
    left = sparse_gains(similar, weights, covered)
    more, rest = left.greedy(covered, costs, _rest(limit, costs, picks), picks, -1)
    return FacilityPicks(np.concatenate([picks, more]), np.concatenate([gains, rest]) / UNIT)


def _rest(limit: float, costs: np.ndarray, picks: Ints) -> float:
    for cost in costs[picks]:
        limit -= cost
    return limit


def _coverage_of(similar: Similarities, weights: np.ndarray, picks: Ints) -> tuple[Ints, Ints]:
    """What each of ``picks`` adds to the coverage of all rows, and the coverage of each row."""
    gains, covered = np.zeros(len(picks), np.int64), np.zeros(len(weights), np.int64)
    against = similar.against(picks)
    for part in slices(len(weights)):
        steps = np.rint(against(part) * (weights[picks] * UNIT)).astype(np.int64)
        upto = np.maximum.accumulate(np.maximum(steps, 0), axis=1)
        gains += np.diff(upto, axis=1, prepend=0).sum(axis=0)
        covered[part] = upto[:, -1] if len(picks) else 0
    return gains, covered


class _Dense:
    """Gains computed from the vectors: of the rows ``picked`` on ``rows`` (None: all rows)."""

    def __init__(
        self, similar: Similarities, weights: np.ndarray, picked: Ints, rows: Ints | None
    ) -> None:
        self._similar, self._picked, self._weights = similar, picked, weights[picked]
        self._rows: Ints | slice = slice(None) if rows is None else rows
        self._height = len(weights) if rows is None else len(rows)
        self.covered = np.zeros(self._height, np.int64)
        self._against = similar.against(self._rows)
        self._probed: np.ndarray | None = None

    def bounds(self) -> Ints:
        """Upper bound of the first gain of each row, in whole steps: O(n d²).

        ``max(0, s)`` is ``(s + |s|) / 2``, and a sum of r terms |s| is at most √(r Σ s²).
        """
        of = self._similar.units[self._rows]
        total, squares = of.sum(axis=0), of.T @ of
        found = np.empty(len(self._picked))
        for part in slices(len(found)):
            units = self._similar.units[self._picked[part]]
            square = np.maximum((products(units, squares) * units).sum(axis=1), 0)
            found[part] = (units @ total + np.sqrt(self._height * square)) / 2
        room = 1.001 * UNIT * self._weights * (found + self._height * slack(of.shape[1]))
        return (np.ceil(np.maximum(room, 0)) + self._height).astype(np.int64)

    def compute(self, at: list[int]) -> Ints:
        """Gains of some of the rows that can be picked."""
        found = np.empty(len(at), np.int64)
        for part in slices(len(at), max(1, 2**22 // max(1, self._height))):
            some = np.array(at[part])
            similar = self._against(self._picked[some])
            found[part] = coverage_gains(similar, self._weights[some], self.covered)
        return found

    def take(self, at: int) -> None:
        """Pick a row."""
        similar = self._against(self._picked[[at]])[0]
        steps = np.rint(similar * (self._weights[at] * UNIT)).astype(np.int64)
        np.maximum(self.covered, steps, out=self.covered)

    def pairs_left(self) -> float:
        """Estimated number of useful pairs, from a sample of the rows."""
        some = np.unique(np.linspace(0, self._height - 1, _PROBES).astype(np.int64))
        if self._probed is None:
            rows = some if isinstance(self._rows, slice) else self._rows[some]
            similar = self._similar.against(rows)(self._picked)
            self._probed = similar * (self._weights * UNIT)[:, None]
        above = np.count_nonzero(self._probed > self.covered[some])
        return above * self._height / len(some)


def _lazy_greedy(
    gains: _Dense, costs: np.ndarray, limit: float, enough: Callable[[], bool]
) -> tuple[Ints, Ints]:
    """Lazy greedy (Minoux 1978): an old gain is an upper bound; recompute the largest."""
    heap = [(-int(gain), row, -1) for row, gain in enumerate(gains.bounds())]
    heapq.heapify(heap)
    picks: list[int] = []
    found: list[int] = []
    batch = _BATCH
    while heap:
        bound, row, seen = heap[0]
        if seen < len(picks):
            _recompute(heap, gains, batch, len(picks))
            batch = min(2 * batch, _MAX_BATCH)
            continue
        if costs[row] > limit:
            break
        limit -= costs[row]
        heapq.heappop(heap)
        gains.take(row)
        picks.append(row)
        found.append(-bound)
        batch = _BATCH
        if enough():
            break
    return np.array(picks, dtype=np.int64), np.array(found, dtype=np.int64)


def _recompute(heap: list[tuple[int, int, int]], gains: _Dense, count: int, picked: int) -> None:
    old = [heapq.heappop(heap) for _ in range(min(count, len(heap)))]
    rows = [row for _, row, seen in old if seen < picked]
    for entry in old:
        if entry[2] == picked:
            heapq.heappush(heap, entry)
    for row, gain in zip(rows, gains.compute(rows).tolist(), strict=True):
        heapq.heappush(heap, (-gain, row, picked))


Greedy = Callable[[np.ndarray, np.ndarray, np.ndarray, float], FacilityPicks]
"""``(units, weights, costs, limit)`` to picks: the greedy that is run in each part."""


def greedi(
    units: np.ndarray,
    weights: np.ndarray,
    costs: np.ndarray,
    limit: float,
    *,
    parts: np.ndarray,
    greedy: Greedy,
) -> FacilityPicks:
    """GreeDi: the better of the greedy on the picks of all parts, and the best picks of one part.

    Mirzasoleiman et al. 2013, arXiv:1411.0541: at least ``(1 - 1/e)² / min(parts, k)`` of the best
    coverage in the worst case, far more for random parts. Picks are compared by the coverage of
    all rows. ``parts`` (n,) is the part of each row.
    """
    winners = []
    for part in np.unique(parts):
        rows = np.flatnonzero(parts == part)
        found = greedy(units[rows], weights[rows], costs[rows], limit)
        winners.append(rows[found.picks])
    union = np.sort(np.concatenate(winners)) if winners else np.zeros(0, dtype=np.int64)
    best = facility_picks_exact(units, weights, costs, limit, among=union)
    reached = coverage(units, best.picks, weights)
    for picks in winners:
        own = coverage(units, picks, weights)
        if own > reached:
            best, reached = FacilityPicks(picks, _marginal_gains(units, picks, weights)), own
    return best


def _marginal_gains(units: np.ndarray, picks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What each of ``picks`` added to the coverage of all rows."""
    upto = [coverage(units, picks[: end + 1], weights) for end in range(len(picks))]
    return np.diff(np.array([0.0, *upto]))
