"""Matrix products whose sums are made in one order: the same bits in any blocks, on any threads.

On processors with 512-bit instructions they are by a kernel of our own, written in LLVM's vectors.
What numpy multiplies with (OpenBLAS) keeps to half of that width on the newest of them: the kernel
is twice as fast, in float32 and in float64, and needs no torch. On others numpy's product is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import binding

from siftune.curate.native.gemm_tile import BYTES, ROWS, VECTORS, tile
from siftune.curate.native.jit import compiled
from siftune.curate.native.threads import threads

__all__ = ["Columns", "Ints", "hits", "is_wide", "products"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_WORTH_THREADS: Final = 2**27  # multiplications


@cache
def is_wide() -> bool:
    """Whether the processor has the instructions that the kernel is made for."""
    jit = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]
    return bool(jit and binding.get_host_cpu_features().get("avx512f", False))


def products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right.T`` of vectors (n, d) and (m, d), both float32 or both float64."""
    return Columns(right).of(left)


class Columns:
    """Vectors (m, d), float32 or float64, laid out once for products with others (n, d)."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._count, self._wide = len(vectors), is_wide()
        self._held = _packed(vectors) if self._wide else vectors

    def of(self, rows: np.ndarray) -> np.ndarray:
        """``rows @ vectors.T``, (n, m)."""
        rows = np.ascontiguousarray(rows)
        if not self._wide:
            found: np.ndarray = rows @ self._held.T
            return found
        out = np.empty((len(rows), self._count), rows.dtype)
        self._in_parts(rows, lambda part: _multiply(rows[part], self._held, out[part]))
        return out

    def above(self, rows: np.ndarray, bound: float) -> tuple[Ints, Ints]:
        """Row and column of each product of at least ``bound``, by row, then column.

        The products themselves are not kept: a tile is looked through while it is in the cache.
        """
        rows = np.ascontiguousarray(rows)
        least = rows.dtype.type(bound)
        if not self._wide:
            return hits(rows @ self._held.T, least)
        parts = self._in_parts(
            rows, lambda part: (part.start, *_above(rows[part], self._held, self._count, least))
        )
        row = np.concatenate([start + own for start, own, _ in parts])
        column = np.concatenate([own for _, _, own in parts])
        order = np.lexsort((column, row))
        return row[order], column[order]

    def _in_parts(self, rows: np.ndarray, work: Callable[[slice], Any]) -> list[Any]:
        """``work`` on slices of the rows, as many at once as there are threads if that pays."""
        many = threads() if rows.size * self._count >= _WORTH_THREADS else 1
        parts = list(_parts(len(rows), many))
        if many == 1:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(many) as pool:
            return list(pool.map(work, parts))


def _parts(height: int, many: int) -> Iterator[slice]:
    step = max(1, -(-height // (many * ROWS))) * ROWS
    for start in range(0, max(1, height), step):
        yield slice(start, min(start + step, height))


@compiled()
def hits(found: npt.NDArray[Any], bound: Any) -> tuple[Ints, Ints]:  # pragma: no cover - compiled
    """Row and column of the entries that reach ``bound``, by row, then column."""
    counts = np.zeros(len(found), np.int64)
    for i in range(len(found)):
        here = 0
        for j in range(found.shape[1]):
            here += found[i, j] >= bound
        counts[i] = here
    row, column = np.empty(counts.sum(), np.int64), np.empty(counts.sum(), np.int64)
    at = 0
    for i in range(len(found)):
        if counts[i]:
            for j in range(found.shape[1]):
                if found[i, j] >= bound:
                    row[at], column[at] = i, j
                    at += 1
    return row, column


@compiled()
def _packed(vectors: np.ndarray) -> np.ndarray:  # pragma: no cover - compiled
    """Panels (p, d, columns) as `tile` reads them; zeros behind the last vector."""
    wide, size = VECTORS * BYTES // vectors.itemsize, vectors.shape[1]
    count = (len(vectors) + wide - 1) // wide
    room = np.empty(count * size * wide + BYTES, vectors.dtype)
    skipped = (-room.ctypes.data % BYTES) // room.itemsize  # a vector lies in one cache line
    panels = room[skipped : skipped + count * size * wide].reshape(count, size, wide)
    for p in range(count):
        some, panel = vectors[p * wide : (p + 1) * wide], panels[p]
        for k in range(size):
            for j in range(len(some)):
                panel[k, j] = some[j, k]
            for j in range(len(some), wide):
                panel[k, j] = 0
    return panels


@compiled()
def _multiply(
    left: np.ndarray, panels: np.ndarray, out: np.ndarray
) -> None:  # pragma: no cover - compiled
    wide = panels.shape[2]
    edge = np.empty((ROWS, wide), left.dtype)
    for p in range(len(panels)):
        start = p * wide
        some = min(wide, out.shape[1] - start)
        for i in range(0, len(left), ROWS):
            if some == wide and i + ROWS <= len(left):
                tile(left, i, panels[p], out, i, start)
                continue
            tile(left, i, panels[p], edge, 0, 0)
            for r in range(min(ROWS, len(left) - i)):
                for j in range(some):
                    out[i + r, start + j] = edge[r, j]


@compiled()
def _above(
    left: np.ndarray, panels: np.ndarray, count: _Int, bound: Any
) -> tuple[Ints, Ints]:  # pragma: no cover - compiled
    """Row and column of the products that reach the bound, tile by tile."""
    wide = panels.shape[2]
    found = np.empty((ROWS, wide), left.dtype)
    row, column = np.empty(1024, np.int64), np.empty(1024, np.int64)
    at = 0
    for p in range(len(panels)):
        some = min(wide, count - p * wide)
        for i in range(0, len(left), ROWS):
            tile(left, i, panels[p], found, 0, 0)
            hits = 0
            for entry in found.flat:
                hits += entry >= bound
            if hits == 0:
                continue
            if at + found.size > len(row):
                row = np.concatenate((row, np.empty(len(row) + found.size, np.int64)))
                column = np.concatenate((column, np.empty(len(column) + found.size, np.int64)))
            for r in range(min(ROWS, len(left) - i)):
                for j in range(some):
                    row[at], column[at] = i + r, p * wide + j
                    at += found[r, j] >= bound
    return row[:at], column[:at]
