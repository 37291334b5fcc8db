"""Matrix products with a fixed order of summation: equal bits in any blocks, on any threads.

On processors with AVX-512 they are computed by `native.gemm_kernel`: OpenBLAS, which numpy uses,
runs 256-bit instructions on the newest of them, half as fast in float32 and float64. Elsewhere, and
without numba, numpy's product is used: exact where every sum is (`vectors.unit_vectors.GRID` in
float64), else equal to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import PLAIN_REASON, compiled, threads

if PLAIN_REASON is None:
    from siftune.curate.native import gemm_kernel

__all__ = ["Columns", "Ints", "hits", "is_wide", "products"]

Ints: TypeAlias = npt.NDArray[np.int64]

_MIN_FOR_THREADS: Final = 2**27  # multiplications
_ROWS: Final = 6  # of a tile of the kernel


def is_wide() -> bool:
    """Whether products are computed by `native.gemm_kernel`."""
    return PLAIN_REASON is None and gemm_kernel.is_supported()


def products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right.T`` of vectors (n, d) and (m, d), both float32 or both float64."""
    return Columns(right).of(left)


class Columns:
    """Vectors (m, d), float32 or float64, laid out once for products with rows (n, d)."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._count, self._wide = len(vectors), is_wide()
        self._vectors = gemm_kernel.pack(vectors) if self._wide else vectors

    def of(self, rows: np.ndarray) -> np.ndarray:
        """``rows @ vectors.T``, (n, m)."""
        rows = np.ascontiguousarray(rows)
        if not self._wide:
            plain: np.ndarray = rows @ self._vectors.T
            return plain
        out = np.empty((len(rows), self._count), rows.dtype)
        self._in_parts(
            rows, lambda part: gemm_kernel.multiply(rows[part], self._vectors, out[part])
        )
        return out

    def above(self, rows: np.ndarray, bound: float) -> tuple[Ints, Ints]:
        """Row and column of each product of at least ``bound``, by row, then column.

        The products are not stored: each tile is compared while it is in the cache.
        """
        rows = np.ascontiguousarray(rows)
        least = rows.dtype.type(bound)
        if not self._wide:
            return hits(rows @ self._vectors.T, least)
        parts = self._in_parts(
            rows,
            lambda part: (
                part.start,
                *gemm_kernel.entries_above(rows[part], self._vectors, self._count, least),
            ),
        )
        row = np.concatenate([start + own for start, own, _ in parts])
        column = np.concatenate([own for _, _, own in parts])
        order = np.lexsort((column, row))
        return row[order], column[order]

    def _in_parts(self, rows: np.ndarray, work: Callable[[slice], Any]) -> list[Any]:
        """Run ``work`` on slices of the rows, on all threads if there is enough work."""
        count = threads() if rows.size * self._count >= _MIN_FOR_THREADS else 1
        parts = list(_parts(len(rows), count))
        if count == 1:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(work, parts))


def _parts(height: int, count: int) -> Iterator[slice]:
    step = max(1, -(-height // (count * _ROWS))) * _ROWS
    for start in range(0, max(1, height), step):
        yield slice(start, min(start + step, height))


def _nonzero(products: npt.NDArray[Any], bound: Any) -> tuple[Ints, Ints]:
    row, column = np.nonzero(products >= bound)
    return row, column


@compiled(plain=_nonzero)
def hits(
    products: npt.NDArray[Any], bound: Any
) -> tuple[Ints, Ints]:  # pragma: no cover - compiled
    """Row and column of the entries of at least ``bound``, by row, then column."""
    counts = np.zeros(len(products), np.int64)
    for i in range(len(products)):
        in_row = 0
        for j in range(products.shape[1]):
            in_row += products[i, j] >= bound
        counts[i] = in_row
    row, column = np.empty(counts.sum(), np.int64), np.empty(counts.sum(), np.int64)
    end = 0
    for i in range(len(products)):
        if counts[i]:
            for j in range(products.shape[1]):
                if products[i, j] >= bound:
                    row[end], column[end] = i, j
                    end += 1
    return row, column
