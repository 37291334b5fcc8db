"""Facility location: rows that together are similar to all rows, by lazy greedy."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from siftune.curate.native.gemm import products
from siftune.curate.vectors.facility_sparse import UNIT, Ints, added, uncovered
from siftune.curate.vectors.similarities import Similarities
from siftune.curate.vectors.unit_vectors import exact_products, slack, slices

__all__ = ["Located", "coverage", "locate", "locate_all"]

_AT_ONCE = 64
_MOST_AT_ONCE = 1024
_PROBES = 128
_SAMPLE = 8192


@dataclass(frozen=True)
class Located:
    """``picks`` (k,) in order, and ``gains`` (k,), what each added to the coverage."""

    picks: np.ndarray
    gains: np.ndarray


def locate(
    units: np.ndarray,
    weights: np.ndarray,
    costs: np.ndarray,
    purse: float,
    *,
    pairs: int = 2**23,
    sample: int | None = _SAMPLE,
    gpu: bool = False,
) -> Located:
    """Greedy for the largest ``Σ_i max_{j picked} weights_j · max(0, cos(i, j))``, in float32.

    Submodular and monotone: at least 1 - 1/e of the best. Of equal gains the first row is picked;
    the walk ends when the next pick costs more than is left.

    What covers a row only rises, so a pair matters only while its similarity is above that. After
    a few picks few do: the greedy goes on, as it would have, on the sparse matrix of those
    (`vectors.facility_sparse`), made in one pass over all products as soon as it has at most
    ``pairs`` entries. Before that, gains are bounded by old ones and computed anew for the largest,
    from the vectors. With more than ``sample`` rows, that many, evenly taken, stand for all until
    the matrix of all rows is small enough; memory is O(n + pairs) beside the vectors.
    """
    height = len(units)
    rows = None
    if sample is not None and height > sample:
        rows = np.linspace(0, height - 1, sample).astype(np.int64)
    return _staged(Similarities(units, gpu), weights, costs, purse, rows, pairs)


def locate_all(
    units: np.ndarray,
    weights: np.ndarray,
    costs: np.ndarray,
    purse: float,
    among: np.ndarray | None = None,
    pairs: int = 2**23,
) -> Located:
    """The same with every row counted from the start, in exact arithmetic: one answer everywhere.

    Holds the vectors once more in float64. ``among``: only these rows, ascending, can be picked.
    """
    similar = Similarities(units.astype(np.float64))
    if among is None:
        return _staged(similar, weights, costs, purse, None, pairs)
    gains = _Dense(similar, weights, among, None)
    picks, found = _lazy_greedy(gains, costs[among], purse, lambda: False)
    return Located(among[picks], found / UNIT)


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
    purse: float,
    rows: Ints | None,
    pairs: int,
) -> Located:
    """Greedy from the vectors, then on the matrix of the rows given, then on that of all rows."""
    height = len(weights)
    dense = _Dense(similar, weights, np.arange(height), rows)
    picks, gains = _lazy_greedy(dense, costs, purse, lambda: dense.pairs_left() <= pairs)
    covered = dense.covered
    if rows is not None:
        left = uncovered(similar, weights, covered, rows)
        enough = pairs * len(rows) // height
        more, _ = left.greedy(covered, costs, _rest(purse, costs, picks), picks, enough)
        picks = np.concatenate([picks, more])
        gains, covered = _gains(similar, weights, picks)
    left = uncovered(similar, weights, covered)
    more, rest = left.greedy(covered, costs, _rest(purse, costs, picks), picks, -1)
    return Located(np.concatenate([picks, more]), np.concatenate([gains, rest]) / UNIT)


def _rest(purse: float, costs: np.ndarray, picks: Ints) -> float:
    for cost in costs[picks]:
        purse -= cost
    return purse


def _gains(similar: Similarities, weights: np.ndarray, picks: Ints) -> tuple[Ints, Ints]:
    """What each of ``picks`` adds to the coverage of all rows, and what covers them then."""
    gains, covered = np.zeros(len(picks), np.int64), np.zeros(len(weights), np.int64)
    against = similar.against(picks)
    for part in slices(len(weights)):
        steps = np.rint(against(part) * (weights[picks] * UNIT)).astype(np.int64)
        upto = np.maximum.accumulate(np.maximum(steps, 0), axis=1)
        gains += np.diff(upto, axis=1, prepend=0).sum(axis=0)
        covered[part] = upto[:, -1] if len(picks) else 0
    return gains, covered


class _Dense:
    """Gains from the vectors: of the rows ``picked`` for ``rows`` (all of them where None)."""

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
        """More than each row can add to nothing, in whole steps: O(n d²).

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

    def now(self, at: list[int]) -> Ints:
        """Gains of some of the rows that can be picked."""
        found = np.empty(len(at), np.int64)
        for part in slices(len(at), max(1, 2**22 // max(1, self._height))):
            some = np.array(at[part])
            similar = self._against(self._picked[some])
            found[part] = added(similar, self._weights[some], self.covered)
        return found

    def take(self, at: int) -> None:
        """Pick a row."""
        similar = self._against(self._picked[[at]])[0]
        steps = np.rint(similar * (self._weights[at] * UNIT)).astype(np.int64)
        np.maximum(self.covered, steps, out=self.covered)

    def pairs_left(self) -> float:
        """About how many pairs are above what covers the row, from some of the rows."""
        some = np.unique(np.linspace(0, self._height - 1, _PROBES).astype(np.int64))
        if self._probed is None:
            rows = some if isinstance(self._rows, slice) else self._rows[some]
            similar = self._similar.against(rows)(self._picked)
            self._probed = similar * (self._weights * UNIT)[:, None]
        above = np.count_nonzero(self._probed > self.covered[some])
        return above * self._height / len(some)


def _lazy_greedy(
    gains: _Dense, costs: np.ndarray, purse: float, enough: Callable[[], bool]
) -> tuple[Ints, Ints]:
    """Minoux 1978: a gain can only shrink, so an old one is a bound; look again at the largest."""
    heap = [(-int(gain), row, -1) for row, gain in enumerate(gains.bounds())]
    heapq.heapify(heap)
    picks: list[int] = []
    found: list[int] = []
    at_once = _AT_ONCE
    while heap:
        bound, row, seen = heap[0]
        if seen < len(picks):
            _look_again(heap, gains, at_once, len(picks))
            at_once = min(2 * at_once, _MOST_AT_ONCE)
            continue
        if costs[row] > purse:
            break
        purse -= costs[row]
        heapq.heappop(heap)
        gains.take(row)
        picks.append(row)
        found.append(-bound)
        at_once = _AT_ONCE
        if enough():
            break
    return np.array(picks, dtype=np.int64), np.array(found, dtype=np.int64)


def _look_again(heap: list[tuple[int, int, int]], gains: _Dense, count: int, now: int) -> None:
    old = [heapq.heappop(heap) for _ in range(min(count, len(heap)))]
    rows = [row for _, row, seen in old if seen < now]
    for entry in old:
        if entry[2] == now:
            heapq.heappush(heap, entry)
    for row, gain in zip(rows, gains.now(rows).tolist(), strict=True):
        heapq.heappush(heap, (-gain, row, now))
