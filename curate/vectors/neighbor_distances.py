"""Distances of each vector to all others, block by block: nearest ones, density, novelty.

A distance is half the squared Euclidean one of vectors on the grid (`unit_vectors.GRID`): one minus
the cosine, exact, and 0 for equal vectors. Blocks hold some million distances; n·m are computed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from siftune.curate.vectors.unit_vectors import exact_products, slices

__all__ = ["density_factors", "nearest_distances", "novelties"]

_ENTRIES = 2**22  # distances of a block


def nearest_distances(
    units: np.ndarray, among: np.ndarray, neighbours: int, *, same: bool, equal: bool = True
) -> np.ndarray:
    """Distances (n, k) to the nearest vectors of ``among``, the nearest first; infinite if fewer.

    With ``same`` both are one set, and a vector is no neighbour of itself; without ``equal``
    neither is any vector equal to it.
    """
    count = max(1, min(neighbours, len(among) - same))
    found = np.full((len(units), count), np.inf)
    for part, gaps in _blocks(units, among, same):
        if not equal:
            gaps[gaps == 0] = np.inf
        if gaps.shape[1] > count:
            gaps = np.partition(gaps, count - 1, axis=1)[:, :count]
        found[part, : gaps.shape[1]] = np.sort(gaps, axis=1)
    return found


def density_factors(
    units: np.ndarray, pool: np.ndarray, neighbours: int, power: float, *, same: bool
) -> np.ndarray:
    """``(mean distance to the k nearest different vectors of the pool) ** -power``, (n,).

    1 for a vector from which none of the pool differs: then all its distances are 0.
    """
    if not power or not len(units):
        return np.ones(len(units))
    near = nearest_distances(units, pool, neighbours, same=same, equal=False)
    known = np.isfinite(near)
    total = np.where(known, near, 0).sum(axis=1)
    mean = np.where(total > 0, total / np.maximum(known.sum(axis=1), 1), 1)
    found: np.ndarray = mean**-power
    return found


def novelties(units: np.ndarray, factors: np.ndarray, power: float) -> np.ndarray:
    """Weighted mean over the other vectors of factor times distance, weights ``rank ** -power``.

    The nearest has rank 1; of equally near ones the first is nearer. Two vectors or more.
    """
    weights = np.arange(1, len(units), dtype=np.float64) ** -power
    found = np.empty(len(units))
    for part, gaps in _blocks(units, units, True):
        order = np.argsort(gaps, axis=1, kind="stable")[:, :-1]  # the last is the vector itself
        near = np.take_along_axis(gaps, order, axis=1)
        found[part] = (near * factors[order] * weights).sum(axis=1) / weights.sum()
    return found


def _blocks(units: np.ndarray, among: np.ndarray, same: bool) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of ``units`` with their distances to ``among``; infinite to themselves if ``same``."""
    halves = [np.sum(side.astype(np.float64) ** 2, axis=1) / 2 for side in (units, among)]
    wide = among.astype(np.float64)
    for part in slices(len(units), max(1, _ENTRIES // max(1, len(among)))):
        gaps = halves[0][part, None] + halves[1] - exact_products(units[part], wide)
        if same:
            gaps[np.arange(len(gaps)), np.arange(part.start, part.stop)] = np.inf
        yield part, gaps
