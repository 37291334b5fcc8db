"""Sparse gains of facility location: pairs that can still add coverage, and greedy on them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.gemm import Columns
from siftune.curate.native.jit import compiled
from siftune.curate.vectors.unit_vectors import slices

__all__ = ["UNIT", "Ints", "Similarities", "SparseGains", "coverage_gains", "sparse_gains"]

Ints: TypeAlias = npt.NDArray[np.int64]
Steps: TypeAlias = npt.NDArray[np.int32]

UNIT = 2.0**24
"""Similarities are counted in whole steps of 2**-24: sums are exact, and so are ties."""

_BLOCK = 1000  # with a power of two, the rows of a transposed block would share cache lines
_ROW = 2**32 - 1
_CHUNK = 64  # the sum of so many steps fits in 32 bits


Rows: TypeAlias = slice | np.ndarray


class Similarities:
    """Products of rows of ``units`` (n, d) with other rows of it, in their own type.

    float64 on the grid is exact. float32 is multiplied on a GPU if ``gpu``.
    """

    def __init__(self, units: np.ndarray, gpu: bool = False) -> None:
        self.units = units
        self._gpu = _Gpu(units) if gpu and units.dtype == np.float32 else None

    def against(self, right: Rows) -> Callable[[Rows], np.ndarray]:
        """A function from some rows to their products (l, r) with the rows ``right``."""
        if self._gpu is not None:
            return self._gpu.against(right)
        columns = Columns(self.units[right])
        return lambda left: columns.of(self.units[left])


class _Gpu:
    """The vectors on a GPU, copied once."""

    def __init__(self, units: np.ndarray, device: str = "cuda") -> None:
        import torch

        self._units = torch.from_numpy(units).to(device)

    def against(self, right: Rows) -> Callable[[Rows], np.ndarray]:
        """See `Similarities.against`."""
        from siftune.curate.vectors.full_precision import full_precision

        columns = self._some(right).T

        def of(left: Rows) -> np.ndarray:
            with full_precision():
                return np.asarray((self._some(left) @ columns).cpu())

        return of

    def _some(self, rows: Rows) -> Any:
        import torch

        return self._units[rows if isinstance(rows, slice) else torch.from_numpy(rows)]


@dataclass(frozen=True)
class SparseGains:
    """For each row that can be picked, the rows that it would cover better than they are now.

    ``first`` and ``last`` (n, blocks) are the ranges of its pairs in ``pairs``, per block of
    covered rows. A pair has the covered row in its lower 32 bits, and above it the similarity times
    the weight of the picked row, in steps. ``gains`` (n,) are the sums of what the pairs add.
    """

    first: Ints
    last: Ints
    pairs: Ints
    gains: Ints

    def greedy(
        self, covered: Ints, costs: np.ndarray, limit: float, taken: Ints, enough: int
    ) -> tuple[Ints, Ints]:
        """Lazy greedy from ``covered`` (updated) on: picks in order, and their gains.

        It ends when the next pick costs more than ``limit``, or when at most ``enough`` useful
        pairs are left. The rows ``taken`` are not picked again. Useless pairs are dropped on the
        way, so the object can be used once.
        """
        is_open = np.ones(len(costs), dtype=np.bool_)
        is_open[taken] = False
        now = covered.astype(np.int32)
        found = _greedy(
            self.first,
            self.last,
            self.pairs,
            self.gains,
            now,
            is_open,
            costs.astype(np.float64),
            float(limit),
            enough,
        )
        covered[:] = now
        return found


def sparse_gains(
    similar: Similarities, weights: np.ndarray, covered: Ints, rows: Ints | None = None
) -> SparseGains:
    """The pairs ``(picked, covered)`` with ``weight · similarity`` above the present coverage.

    The coverage of a row never falls, so a greedy that continues from here needs no other pairs.
    With ``rows``, only these are covered, and ``covered`` is theirs. Without, each product of two
    blocks is used for both.
    """
    height = len(weights)
    count = height if rows is None else len(rows)
    blocks = len(list(slices(count, _BLOCK)))
    first, last = np.zeros((height, blocks), np.int64), np.zeros((height, blocks), np.int64)
    gains = np.zeros(height, np.int64)
    pairs, low, end = _grown(np.empty(0, np.int64), 0), covered.astype(np.int32), 0
    for picked, block, found in _blocks(similar, rows, height, count):
        pairs = _grown(pairs, end)
        start = block * _BLOCK
        part = slice(start, start + found.shape[1])
        ends = _above(found, weights[picked], low[part], start, pairs, end, gains[picked])
        first[picked, block], last[picked, block] = ends[:-1], ends[1:]
        end = int(ends[-1])
    return SparseGains(first, last, pairs[:end], gains)


def _grown(pairs: Ints, used: int) -> Ints:
    """``pairs`` with room for one more block; unused memory is reserved only, not allocated."""
    if len(pairs) - used > _BLOCK * _BLOCK:
        return pairs
    larger = np.empty(2 * used + 8 * _BLOCK * _BLOCK, np.int64)
    larger[:used] = pairs[:used]
    return larger


def _blocks(
    similar: Similarities, rows: Ints | None, height: int, count: int
) -> Iterator[tuple[slice, int, np.ndarray]]:
    """Rows that can be picked, number of the block of covered rows, and the products of both."""
    for i, part in enumerate(slices(count, _BLOCK)):
        against = similar.against(part if rows is None else rows[part])
        for j, picked in enumerate(slices(part.stop if rows is None else height, _BLOCK)):
            found = against(picked)
            yield picked, i, found
            if rows is None and i != j:
                yield part, j, np.ascontiguousarray(found.T)


def coverage_gains(products: np.ndarray, weights: np.ndarray, covered: Ints) -> Ints:
    """Gain of each of some rows: the sum of the steps by which its products exceed ``covered``."""
    gains: Ints = _coverage_gains(products, weights, covered.astype(np.int32))
    return gains


@compiled()
def _coverage_gains(
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
    """Write the pairs above ``covered`` to ``pairs[at:]``; the start of each row's, and the end.

    Their gains are added to ``gains``. Products are tested a chunk at a time by vector
    instructions: most chunks have no pair.
    """
    ends, own = np.empty(products.shape[0] + 1, np.int64), np.empty(_CHUNK, np.int32)
    ends[0] = at
    for i in range(products.shape[0]):
        scale = weights[i] * UNIT
        for start in range(0, products.shape[1], _CHUNK):
            some = products[i, start : start + _CHUNK]
            low = covered[start : start + _CHUNK]
            more = np.int32(0)
            for j in range(len(some)):
                own[j] = np.int32(np.rint(some[j] * scale))
                more += max(own[j] - low[j], np.int32(0))
            if more == 0:
                continue
            gains[i] += more
            for j in range(len(some)):
                # Without a branch: overwritten if it is not above.
                pairs[at] = (np.int64(own[j]) << 32) + (offset + start + j)
                at += own[j] > low[j]
        ends[i + 1] = at
    return ends


@compiled()
def _gain(
    row: np.int64, first: Ints, last: Ints, pairs: Ints, covered: Steps
) -> np.int64:  # pragma: no cover - compiled
    """The gain of the row now; drops its useless pairs if they are half of a block."""
    total = np.int64(0)
    for block in range(first.shape[1]):
        start, stop = first[row, block], last[row, block]
        own, some, useful = pairs[start:stop], np.int64(0), np.int64(0)
        for at in range(len(own)):
            more = max((own[at] >> 32) - covered[own[at] & _ROW], 0)
            some += more
            useful += more > 0
        total += some
        if 2 * useful < len(own):
            last[row, block] = _drop_useless(start, stop, pairs, covered)
    return total


@compiled()
def _drop_useless(
    start: np.int64, stop: np.int64, pairs: Ints, covered: Steps
) -> np.int64:  # pragma: no cover - compiled
    """Move the useful pairs to the front; their end."""
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
    is_open: npt.NDArray[np.bool_],
    costs: npt.NDArray[np.float64],
    limit: float,
    enough: int,
) -> tuple[Ints, Ints]:  # pragma: no cover - compiled
    """Lazy greedy (Minoux 1978): an old gain is an upper bound; recompute the largest."""
    rows = [np.int64(row) for row in range(len(is_open)) if is_open[row]]
    heap = [(-gains[row], row, np.int64(0)) for row in rows]
    heapq.heapify(heap)
    picks, found = np.empty(len(heap), np.int64), np.empty(len(heap), np.int64)
    count = 0
    while len(heap):
        bound, row, seen = heap[0]
        if seen < count:
            gain = _gain(row, first, last, pairs, covered)
            heapq.heapreplace(heap, (-gain, row, np.int64(count)))
            continue
        if costs[row] > limit:
            break
        heapq.heappop(heap)
        limit -= costs[row]
        _raise_coverage(row, first, last, pairs, covered)
        picks[count], found[count] = row, -bound
        count += 1
        if enough >= 0 and _count_useful(first, last, pairs, covered) <= enough:
            break
    return picks[:count], found[:count]


@compiled()
def _raise_coverage(
    row: np.int64, first: Ints, last: Ints, pairs: Ints, covered: Steps
) -> None:  # pragma: no cover - compiled
    for block in range(first.shape[1]):
        for at in range(first[row, block], last[row, block]):
            to = pairs[at] & _ROW
            covered[to] = max(covered[to], np.int32(pairs[at] >> 32))


@compiled()
def _count_useful(
    first: Ints, last: Ints, pairs: Ints, covered: Steps
) -> int:  # pragma: no cover - compiled
    count = 0
    for row in range(first.shape[0]):
        for block in range(first.shape[1]):
            for at in range(first[row, block], last[row, block]):
                count += (pairs[at] >> 32) > covered[pairs[at] & _ROW]
    return count
