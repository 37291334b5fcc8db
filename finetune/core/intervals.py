"""Confidence intervals of evaluation metrics: a bootstrap over prompts, and metrics as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

__all__ = [
    "HIGH",
    "LOW",
    "as_text",
    "bootstrap_interval",
    "with_correlation",
    "with_crossed_interval",
    "with_interval",
]

LOW: Final = "_low"
HIGH: Final = "_high"
"""What is appended to a metric's name for the two ends of its 95 % interval."""

_RESAMPLES: Final = 1_000


def bootstrap_interval(
    values: Sequence[float], clusters: Sequence[Any], weights: Sequence[float] | None = None
) -> tuple[float, float]:
    """95 % percentile interval of the mean of ``values``, by a bootstrap over ``clusters``.

    All values of one cluster (a prompt) are drawn together, because they are not independent;
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, sections 8.5 and 13.3.
    ``weights`` (default 1 each) make it the interval of the weighted mean. The draws are seeded:
    equal input, equal interval.

    >>> bootstrap_interval([1.0, 1.0], ["a", "b"])
    (1.0, 1.0)
    """
    _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    total = np.bincount(cluster, weights=weight * np.asarray(values, float))
    size = np.bincount(cluster, weights=weight)
    drawn = np.random.default_rng(0).integers(len(size), size=(_RESAMPLES, len(size)))
    means = total[drawn].sum(1) / size[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def with_interval(
    name: str,
    values: Sequence[float],
    clusters: Sequence[Any],
    weights: Sequence[float] | None = None,
) -> dict[str, float]:
    """``name``, ``name_low`` and ``name_high``: a mean and its 95 % interval.

    One cluster alone has no interval, and so no ends.
    """
    mean = {name: float(np.average(values, weights=weights))}
    if len(set(clusters)) < 2:
        return mean
    low, high = bootstrap_interval(values, clusters, weights)
    return {**mean, f"{name}{LOW}": low, f"{name}{HIGH}": high}


def with_crossed_interval(
    name: str, values: Sequence[float], first: Sequence[Any], second: Sequence[Any]
) -> dict[str, float]:
    """``name`` and the ends of its 95 % interval: a mean over pairs of answers to any two prompts.

    ``first`` and ``second`` are the prompts of the two answers of each value, such as a good and a
    bad one of an area under the ROC curve. Prompts are drawn, each with all its answers: a value
    counts as often as its two prompts were drawn, multiplied. A side of one prompt has no interval.

    >>> with_crossed_interval("auc", [1.0, 0.0], "aa", "bc")
    {'auc': 0.5}
    """
    mean = {name: float(np.mean(values))}
    if min(len(set(first)), len(set(second))) < 2:
        return mean
    _, at = np.unique(np.asarray([*first, *second]), return_inverse=True)
    at, size = at.reshape(2, -1), int(at.max()) + 1
    total, count = np.zeros((size, size)), np.zeros((size, size))
    np.add.at(total, tuple(at), np.asarray(values, float))
    np.add.at(count, tuple(at), 1)
    drawn = np.random.default_rng(0).multinomial(size, np.full(size, 1 / size), _RESAMPLES)
    with np.errstate(invalid="ignore"):
        means = ((drawn @ total) * drawn).sum(1) / ((drawn @ count) * drawn).sum(1)
    low, high = np.nanquantile(means, [0.025, 0.975])  # a draw without one of the sides has none
    return {**mean, f"{name}{LOW}": float(low), f"{name}{HIGH}": float(high)}


def with_correlation(
    name: str,
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Any],
    *,
    ranks: bool = False,
) -> dict[str, float]:
    """``name`` and the ends of its 95 % interval: a correlation, resampled by clusters.

    Pearson's, or with ``ranks`` Spearman's, whose ranks are those among all values (equal values
    share their mean rank) in every resample. Where a side does not vary there is none.

    >>> with_correlation("r", [1, 2, 3], [1, 4, 9], "aaa", ranks=True)
    {'r': 1.0}
    """
    sides = [np.asarray(one, float) for one in (first, second)]
    if ranks:
        sides = [_ranks(one) for one in sides]
    if any(np.ptp(one) == 0 for one in sides):
        return {}
    x, y = (one - one.mean() for one in sides)
    columns = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y])
    _, cluster = np.unique(np.asarray(list(clusters)), return_inverse=True)
    sums = np.stack([np.bincount(cluster, weights=column) for column in columns])
    found = {name: float(_correlation(sums.sum(1)))}
    if sums.shape[1] < 2:
        return found
    drawn = np.random.default_rng(0).integers(sums.shape[1], size=(_RESAMPLES, sums.shape[1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = _correlation(sums[:, drawn].sum(2))
    low, high = np.nanquantile(resampled, [0.025, 0.975])  # one that does not vary has none
    return {**found, f"{name}{LOW}": float(low), f"{name}{HIGH}": float(high)}


def _correlation(sums: np.ndarray[Any, Any]) -> Any:
    """Correlation from count, sums, sums of squares and of products."""
    count, x, y, xx, yy, xy = sums
    return (count * xy - x * y) / np.sqrt((count * xx - x * x) * (count * yy - y * y))


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Ranks from 1; equal values share their mean rank."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: np.ndarray[Any, Any] = (last - (counts - 1) / 2)[at]
    return means


def as_text(metrics: Mapping[str, float]) -> dict[str, str]:
    """Each metric as text, the ends of its interval in brackets behind it.

    >>> as_text({"rows": 3, "reward": 0.5, "reward_low": 0.25, "reward_high": 0.75})
    {'rows': '3', 'reward': '0.5 (0.25 … 0.75)'}
    """
    ends = {f"{name}{end}" for name in metrics for end in (LOW, HIGH)} & metrics.keys()
    return {
        name: f"{value:.4g}" + _ends(metrics, name)
        for name, value in metrics.items()
        if name not in ends
    }


def _ends(metrics: Mapping[str, float], name: str) -> str:
    low, high = metrics.get(f"{name}{LOW}"), metrics.get(f"{name}{HIGH}")
    return "" if low is None or high is None else f" ({low:.4g} … {high:.4g})"
