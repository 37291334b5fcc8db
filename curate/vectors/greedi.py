"""Facility location in partitions (GreeDi): greedy in each, then greedy on the winners of all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from siftune.curate.vectors.facility_location import Located, coverage, locate_all

__all__ = ["Locate", "greedi"]

Locate = Callable[[np.ndarray, np.ndarray, np.ndarray, float], Located]
"""``(units, weights, costs, purse)`` to picks: the greedy that is run in each part."""


def greedi(
    units: np.ndarray,
    weights: np.ndarray,
    costs: np.ndarray,
    purse: float,
    *,
    parts: np.ndarray,
    locate: Locate,
) -> Located:
    """The better of the greedy on all parts' winners and the best part's own winners.

    Mirzasoleiman et al. 2013, arXiv:1411.0541: at least ``(1 - 1/e)² / min(parts, k)`` of the best
    coverage in the worst case, far more where rows are dealt out at random. All is judged by the
    coverage of all rows. ``parts`` (n,) names the part of each row.
    """
    winners = []
    for part in np.unique(parts):
        rows = np.flatnonzero(parts == part)
        found = locate(units[rows], weights[rows], costs[rows], purse)
        winners.append(rows[found.picks])
    union = np.sort(np.concatenate(winners)) if winners else np.zeros(0, dtype=np.int64)
    best = locate_all(units, weights, costs, purse, among=union)
    reached = coverage(units, best.picks, weights)
    for picks in winners:
        own = coverage(units, picks, weights)
        if own > reached:
            best, reached = Located(picks, _gains(units, picks, weights)), own
    return best


def _gains(units: np.ndarray, picks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What each of ``picks`` added to the coverage of all rows."""
    upto = [coverage(units, picks[: end + 1], weights) for end in range(len(picks))]
    return np.diff(np.array([0.0, *upto]))
