"""Confidence intervals of evaluation metrics: a bootstrap over prompts, and metrics as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

__all__ = ["HIGH", "LOW", "as_text", "bootstrap_interval", "with_interval"]

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
