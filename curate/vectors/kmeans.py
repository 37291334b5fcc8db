"""Spherical k-means in exact arithmetic: equal clusters in any blocks, threads or device."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy import sparse

from siftune.curate.rows.decisions import draws
from siftune.curate.vectors.nearest_centers import Device, NearestCenters, on_gpu
from siftune.curate.vectors.unit_vectors import on_grid, slices

__all__ = ["cluster_rows", "kmeans"]


def cluster_rows(
    rows: pl.DataFrame,
    units: np.ndarray,
    clusters: int | None,
    iterations: int,
    seed: int,
    device: Device,
) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each of ``units``, the vectors of ``rows``, and the centres.

    The first centres are rows drawn by their own content and ``seed``. Where ``clusters`` is None
    their number is the square root of half the number of rows (CaR, arXiv:2402.18191).
    """
    height = len(units)
    if not height:
        return np.empty(0, dtype=np.int64), np.empty((0, units.shape[1]), dtype=np.float32)
    count = min(height, clusters or max(1, round((height / 2) ** 0.5)))
    starts = np.argsort(draws(rows, -1 - seed).to_numpy(), kind="stable")[:count]
    gpu = on_gpu(device, float(units.size) * count * iterations)
    return kmeans(units, starts, iterations, gpu)


def kmeans(
    units: np.ndarray, starts: np.ndarray, iterations: int, gpu: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each of ``units`` (n, d), and the centres (k, d).

    Lloyd's algorithm from the rows ``starts`` until no assignment changes, or for ``iterations``
    rounds. A vector is assigned to the nearest centre, the first of equals; a centre is the
    direction of the sum of its vectors, and is kept if it has none. The vectors are on the grid
    (`unit_vectors.GRID`): sums and comparisons are exact.
    """
    centres = units[starts]
    cluster = _assign(units, centres, gpu)
    for _ in range(iterations):
        centres = _means(units, cluster, centres)
        moved = _assign(units, centres, gpu)
        if (moved == cluster).all():
            break
        cluster = moved
    return cluster, centres


def _assign(units: np.ndarray, centres: np.ndarray, gpu: bool) -> np.ndarray:
    nearest = NearestCenters(units, gpu)
    for part in slices(len(centres), 1024):
        nearest.add(centres[part])
    return nearest.resolve(centres)[0]


def _means(units: np.ndarray, cluster: np.ndarray, before: np.ndarray) -> np.ndarray:
    sums = np.zeros((len(before), units.shape[1]))
    for part in slices(len(units)):
        own = cluster[part]
        columns = np.arange(len(own))
        member = sparse.csr_array(
            (np.ones(len(own)), (own, columns)), shape=(len(before), len(own))
        )
        sums += member @ units[part].astype(np.float64)
    means, usable = on_grid(sums)
    return np.where(usable[:, None], means, before)
