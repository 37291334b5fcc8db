"""Sums over rows that were not seen, with 95 % intervals, from rows that were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from siftune.curate.core.errors import UsageError

__all__ = ["Range", "added", "predicted_sum"]

_LEVEL: Final = 0.975


@dataclass(frozen=True)
class Range:
    """An expected sum, and its 95 % interval."""

    low: float
    value: float
    high: float

    def times(self, factor: float) -> Range:
        """The range of a sum over so many times the rows."""
        return Range(self.low * factor, self.value * factor, self.high * factor)


def added(parts: Iterable[Range | None]) -> Range | None:
    """The sum of what judges take, None where that of one is not known.

    Judges read the same rows, so what they take need not vary independently: the ends of the
    intervals are added, too.
    """
    total = Range(0.0, 0.0, 0.0)
    for part in parts:
        if part is None:
            return None
        total = Range(total.low + part.low, total.value + part.value, total.high + part.high)
    return total


def predicted_sum(x: np.ndarray, y: np.ndarray, left: np.ndarray) -> Range:
    """The sum of ``y`` over rows ``left`` (rows, features), by least squares on rows ``x``.

    The interval is that of a sum of new observations: the variance of the fit and of each row,
    ``s² (m + tᵀ (XᵀX)⁻¹ t)`` with ``t`` the sum of the features of the ``m`` rows, and Student's t.

    >>> predicted_sum(np.ones((4, 1)), np.array([1.0, 3, 1, 3]), np.ones((2, 1))).value
    4.0
    """
    from scipy.stats import t as student

    if not len(left):
        return Range(0.0, 0.0, 0.0)
    scale = np.abs(x).max(axis=0)
    scale[scale == 0] = 1.0
    x, left = x / scale, left / scale
    fit, _, rank, _ = np.linalg.lstsq(x, y, rcond=1e-9)
    total = left.sum(axis=0)
    value = float(total @ fit)
    free = len(y) - int(rank)
    if free < 1:
        raise UsageError("too few answered rows to forecast the others from")
    variance = float(((y - x @ fit) ** 2).sum() / free)
    spread = variance * (len(left) + float(total @ np.linalg.pinv(x.T @ x, rcond=1e-9) @ total))
    half = float(student.ppf(_LEVEL, free)) * spread**0.5
    return Range(value - half, value, value + half)
