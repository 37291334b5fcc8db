"""Estimates with 95 % confidence intervals, by prompts: Wilson for shares, else a BCa bootstrap.

Rows of one prompt are not independent, so a prompt with all its rows is one draw (a cluster). What
has no interval is no `Estimate` but a `NotEstimableError` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Estimate",
    "Floats",
    "NotEstimableError",
    "Statistic",
    "bootstrap",
    "cluster_sums",
    "critical_value",
    "mean",
    "prompt_index",
    "share",
    "unseen",
    "wilson",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]
"""From weights of rows (draws, rows) to the statistic of each draw (draws,), NaN if undefined."""

_DRAWS: Final = 1_000
_CELLS: Final = 40_000  # weights that are held at once: more of them leave the cache
_JACKKNIFE: Final = 2_000  # prompts; with more of them the acceleration is about 0
_NONE: Final = 1e-18  # a variance that is rounding alone
_CONSTANT: Final = 1e-9  # a spread of resamples that is rounding alone
_UNDEFINED: Final = 0.1  # of the resamples at most


class NotEstimableError(Exception):
    """A statistic that the rows do not determine; the text is the reason."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, of ``rows`` rows of ``prompts`` prompts.

    >>> print(Estimate(0.5, 0.25, 0.75, rows=12, prompts=6))
    0.500 (0.250 … 0.750)
    """

    value: float
    low: float
    high: float
    rows: int
    prompts: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} … {self.high:.3f})"

    def excludes(self, value: float) -> bool:
        """Whether ``value`` is outside of the interval."""
        return not self.low <= value <= self.high


def prompt_index(prompts: Sequence[Any] | npt.NDArray[Any] | None, rows: int) -> tuple[Any, int]:
    """The number of the prompt of each row (rows,), and how many prompts there are.

    ``None`` makes every row a prompt of its own.
    """
    if prompts is None:
        return np.arange(rows), rows
    _, index = np.unique(np.asarray(prompts), return_inverse=True)
    return index, int(index.max(initial=-1)) + 1


def critical_value(degrees: float) -> float:
    """The 97.5 % quantile of Student's t; refused where nothing is left to estimate a variance."""
    from scipy.special import stdtrit

    if degrees < 1:
        raise NotEstimableError("two prompts at least are needed for an interval")
    return float(stdtrit(degrees, 0.975))


def cluster_sums(values: npt.ArrayLike, index: Any, prompts: int) -> Floats:
    """Sums of ``values`` (rows,) by prompt (prompts,)."""
    return np.bincount(index, np.asarray(values, float), prompts).astype(float)


def unseen(prompts: int) -> float:
    """Largest share of draws of another kind, of which none would be among ``prompts`` draws.

    It is the end of `wilson` where none was seen.
    """
    squared = critical_value(prompts - 1) ** 2
    return float(squared / (prompts + squared))


def wilson(value: float, variance: float, prompts: int) -> tuple[float, float]:
    """Wilson's interval of a share in [0, 1] whose estimate has the sampling ``variance``.

    The number of draws is the effective one, ``value (1 - value) / variance`` (Korn and Graubard
    1998), and the quantile is Student's. Where all draws are alike the variance is 0; the ends are
    then those of the largest share of other draws of which none would be seen.

    >>> low, high = wilson(1.0, 0.0, 50)
    >>> round(low, 2), high
    (0.93, 1.0)
    """
    quantile = critical_value(prompts - 1)
    if variance < _NONE:
        others = unseen(prompts)
        return value * (1 - others), value + (1 - value) * others
    spread = value * (1 - value)
    squared = quantile**2 * variance / spread
    middle = (value + squared / 2) / (1 + squared)
    half = np.sqrt(squared * (spread + squared / 4)) / (1 + squared)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def share(
    values: npt.ArrayLike,
    prompts: Sequence[Any] | npt.NDArray[Any] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """Mean of values between ``bounds``, such as wins (1, ties 0.5, losses 0), with `wilson`.

    The variance is the one that is robust to clusters: of the prompts' sums about the mean. Where
    values are alike, it says nothing of others: the ends are at least those with as many values
    beyond the smallest and the largest one as could be there, but for chance (`unseen`).

    >>> print(share([1, 0, 1, 1, 0.5, 0, 1, 1, 1, 1]))
    0.750 (0.405 … 0.930)
    """
    base, width = bounds[0], bounds[1] - bounds[0]
    scaled = (np.asarray(values, float) - base) / width
    rows = scaled.size
    index, count = prompt_index(prompts, rows)
    if count < 2:
        raise NotEstimableError(f"two prompts at least are needed for an interval, got {count}")
    mean = float(scaled.mean())
    off = cluster_sums(scaled - mean, index, count)
    variance = count / (count - 1) * float(off @ off) / rows**2
    low, high = wilson(mean, variance, count)
    others = unseen(count)
    low = min(low, mean - others * float(scaled.min()))
    high = max(high, mean + others * (1 - float(scaled.max())))
    return Estimate(base + width * mean, base + width * low, base + width * high, rows, count)


def mean(
    values: npt.ArrayLike, prompts: Sequence[Any] | npt.NDArray[Any] | None = None
) -> Estimate:
    """Mean of any numbers, such as lengths, with Student's interval, robust to clusters.

    Raises:
        NotEstimableError: no prompt differs, and nothing bounds what was not seen.
    """
    given = np.asarray(values, float)
    index, count = prompt_index(prompts, given.size)
    quantile, value = critical_value(count - 1), float(given.mean())
    off = cluster_sums(given - value, index, count)
    half = quantile * float(np.sqrt(count / (count - 1) * (off @ off))) / given.size
    if half < _CONSTANT * max(1.0, abs(value)):
        raise NotEstimableError(f"it is {value:.3g} for every prompt: the rows do not vary")
    return Estimate(value, value - half, value + half, given.size, count)


def bootstrap(
    statistic: Statistic,
    rows: int,
    prompts: Sequence[Any] | npt.NDArray[Any] | None = None,
    *,
    draws: int = _DRAWS,
    disagreement_by_chance: float = 1.0,
) -> Estimate:
    """A statistic with its BCa interval, by a seeded bootstrap over prompts.

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 14.3; levels are those of
    Student's t, because a percentile interval is too short with few prompts (Hesterberg 2015).

    A statistic with one value below 1 in every resample has no interval. A measure of agreement at
    its highest, 1, is 1 in every resample, too. Its low end is that of raters
    who answer as many rows at random as could be, when ``disagreement_by_chance`` of such answers
    differ and none was seen to.
    """
    index, count = prompt_index(prompts, rows)
    if count < 3:
        raise NotEstimableError(f"three prompts at least are needed, got {count}")
    value = float(statistic(np.ones((1, rows)))[0])
    if not np.isfinite(value):
        raise NotEstimableError("all values are the same")
    drawn = np.concatenate([statistic(w[:, index]) for w in _resamples(count, rows, draws)])
    known = drawn[np.isfinite(drawn)]
    if known.size < (1 - _UNDEFINED) * draws:
        raise NotEstimableError("too few rows differ: many resamples hold one value alone")
    if np.ptp(known) < _CONSTANT:
        if value < 1 - _CONSTANT:
            raise NotEstimableError(f"it is {value:.3g} in every resample: the rows do not vary")
        low = max(-1.0, value - unseen(count) / disagreement_by_chance)
        return Estimate(value, low, value, rows, count)
    low, high = _bca(known, value, count, _acceleration(statistic, index, count))
    return Estimate(value, low, high, rows, count)


def _resamples(prompts: int, rows: int, draws: int) -> Iterator[Floats]:
    """How often each prompt is drawn: (part of the draws, prompts)."""
    source = np.random.default_rng(0)
    part = max(1, _CELLS // max(prompts, rows))
    for start in range(0, draws, part):
        height = min(part, draws - start)
        drawn = source.integers(prompts, size=(height, prompts))
        drawn += prompts * np.arange(height)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=height * prompts)
        yield counts.reshape(height, prompts).astype(float)


def _acceleration(statistic: Statistic, index: Any, prompts: int) -> float:
    """Skewness of the values without one prompt each, over 6 (equation 14.15 of the book)."""
    if prompts > _JACKKNIFE:
        return 0.0
    part = max(1, _CELLS // max(prompts, index.size))
    starts = range(0, prompts, part)
    without = (np.arange(at, min(at + part, prompts))[:, None] != index for at in starts)
    left_out = np.concatenate([statistic(weight.astype(float)) for weight in without])
    off = np.nanmean(left_out) - left_out[np.isfinite(left_out)]
    squares = float((off**2).sum())
    return float((off**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0


def _bca(drawn: Floats, value: float, prompts: int, acceleration: float) -> tuple[float, float]:
    from scipy.special import ndtr, ndtri

    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    shift = float(ndtri(np.clip(below, 0.5 / drawn.size, 1 - 0.5 / drawn.size)))
    wide = np.sqrt(prompts / (prompts - 1)) * critical_value(prompts - 1)
    ends = shift + np.array([-wide, wide])
    low, high = np.quantile(drawn, ndtr(shift + ends / (1 - acceleration * ends)))
    return float(low), float(high)
