"""Spherical k-means whose clusters do not depend on blocks, threads or device."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from siftune.curate.vectors.nearest_centers import Nearest
from siftune.curate.vectors.unit_vectors import on_grid, slices

__all__ = ["kmeans"]


def kmeans(
    units: np.ndarray, starts: np.ndarray, iterations: int, gpu: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each of ``units`` (n, d), and the centres (k, d).

    Lloyd's algorithm from the rows ``starts`` until no row moves, or ``iterations`` rounds. A
    vector goes to the nearest centre, the first of equals; a centre is the direction of its
    vectors' sum, and stays where it is if it has none. The vectors are on the grid
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
    nearest = Nearest(units, gpu)
    for part in slices(len(centres), 1024):
        nearest.add(centres[part])
    return nearest.settle(centres)[0]


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
