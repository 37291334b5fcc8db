"""Similarities of rows with rows, block by block, on the processor or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from siftune.curate.native.gemm import Columns

__all__ = ["Similarities"]

Rows: TypeAlias = slice | np.ndarray


class Similarities:
    """Similarities of vectors (n, d), in the type that they are given in.

    float64 on the grid is exact. float32 is multiplied on a GPU where asked.
    """

    def __init__(self, units: np.ndarray, gpu: bool = False) -> None:
        self.units = units
        self._gpu = _Gpu(units) if gpu and units.dtype == np.float32 else None

    def against(self, right: Rows) -> Callable[[Rows], np.ndarray]:
        """What gives the products (l, r) of some rows with those on the right."""
        if self._gpu is not None:
            return self._gpu.against(right)
        columns = Columns(self.units[right])
        return lambda left: columns.of(self.units[left])


class _Gpu:
    """The vectors on a GPU, copied there once."""

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
