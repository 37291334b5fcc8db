"""Nearest centre of every vector, computed in blocks, on the CPU or a GPU."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal, TypeAlias

import numpy as np

from siftune.curate.core.errors import UsageError
from siftune.curate.native.gemm import Columns
from siftune.curate.vectors.unit_vectors import exact_products, slack, slices

__all__ = ["Device", "NearestCenters", "on_gpu"]

Device: TypeAlias = Literal["auto", "cpu", "cuda"]

_MIN_FOR_TORCH = 2e11
"""Multiplications from which importing torch to look for a GPU takes less time than it saves."""

_IN_CACHE = 512  # rows: their products with the new centres fit in the cache
_ON_GPU = 16_384


def on_gpu(device: Device, work: float) -> bool:
    """Whether to compute on a GPU; ``work`` is the number of multiplications.

    Raises:
        UsageError: a GPU was asked for and there is none.
    """
    if device == "cpu" or (device == "auto" and work < _MIN_FOR_TORCH):
        return False
    available = False
    if _has_torch():
        import torch

        available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UsageError("device: cuda was asked for, but torch finds no GPU here; leave it out")
    return available


class NearestCenters:
    """For each of ``units`` (n, d) the nearest centre so far; memory O(n) beside the vectors.

    ``gap`` (n,) float32 is half the squared distance to it, with an error of at most `slack`; it is
    infinite before the first centre. `resolve` decides exactly where float32 cannot.
    """

    def __init__(self, units: np.ndarray, gpu: bool = False) -> None:
        self.units = units
        self.gap = np.full(len(units), np.inf, dtype=np.float32)
        self._index = np.zeros(len(units), dtype=np.int32)
        self._unsure = np.zeros(len(units), dtype=bool)
        self._twice = np.float32(2 * slack(units.shape[1]))
        self._added = 0
        self._gpu = _Gpu(units) if gpu else None

    def add(self, centres: np.ndarray) -> None:
        """Compare all rows with the next centres (m, d)."""
        columns = Columns(centres) if self._gpu is None else self._gpu.columns(centres)
        for part in slices(len(self.units), _IN_CACHE if self._gpu is None else _ON_GPU):
            best, index, tied = self._best(part, columns)
            self._merge(part, np.float32(1) - best, index + self._added, tied)
        self._added += len(centres)

    def resolve(self, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index of the nearest of all ``centres``, the first of equals, and the exact gap (n,)."""
        index = self._index.copy()
        doubtful = np.flatnonzero(self._unsure)
        halves = _half_squares(centres)
        for part in slices(len(doubtful), 1024):
            rows = doubtful[part]
            index[rows] = np.argmin(halves - exact_products(self.units[rows], centres), axis=1)
        gaps = np.empty(len(index))
        for part in slices(len(index), _IN_CACHE):
            apart = self.units[part].astype(np.float64) - centres[index[part]]
            gaps[part] = np.sum(apart * apart, axis=1) / 2
        return index, gaps

    def _best(self, part: slice, columns: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._gpu is not None:
            return self._gpu.best(part, columns, float(self._twice))
        products = columns.of(self.units[part])
        index = np.argmax(products, axis=1)
        best = products[np.arange(len(index)), index]
        near = products >= (best - self._twice)[:, None]
        return best, index, np.count_nonzero(near, axis=1) > 1

    def _merge(self, part: slice, gap: np.ndarray, index: np.ndarray, tied: np.ndarray) -> None:
        before = self.gap[part]
        nearer = gap < before
        close = np.abs(gap - before) <= self._twice
        clearly = nearer & ~close
        self._unsure[part] = np.where(clearly, tied, self._unsure[part] | close)
        self._index[part] = np.where(nearer, index, self._index[part])
        self.gap[part] = np.minimum(gap, before)


class _Gpu:
    """The products by torch, with the vectors stored on the GPU."""

    def __init__(self, units: np.ndarray, device: str = "cuda") -> None:
        import torch

        self._torch: Any = torch
        self._units = torch.from_numpy(units).to(device)

    def columns(self, centres: np.ndarray) -> Any:
        """The centres on the GPU, as `best` takes them."""
        return self._torch.from_numpy(np.ascontiguousarray(centres)).to(self._units.device).T

    def best(
        self, part: slice, columns: Any, twice: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from siftune.curate.vectors.full_precision import full_precision

        with full_precision():
            products = self._units[part] @ columns
        best, index = products.max(dim=1)
        tied = (products >= (best - twice)[:, None]).sum(dim=1) > 1
        return best.cpu().numpy(), index.cpu().numpy(), tied.cpu().numpy()


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _half_squares(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    halves: np.ndarray = np.sum(wide * wide, axis=1) / 2
    return halves
