"""Agreement of raters: Cohen's kappa, Krippendorff's alpha, rank correlations, accuracy.

Ratings are arrays of numbers, NaN where a rater gave none; labels that are texts are numbered
first (`numbered`). Every function has an interval, by prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.intervals import (
    Estimate,
    Floats,
    NotEstimableError,
    Statistic,
    bootstrap,
    share,
)

__all__ = [
    "Level",
    "accuracy",
    "cohen_kappa",
    "kendall_tau",
    "krippendorff_alpha",
    "numbered",
    "rank_correlation",
    "spearman",
]

Level: TypeAlias = Literal["nominal", "ordinal", "interval"]
Prompts: TypeAlias = Sequence[Any] | npt.NDArray[Any] | None

_LABELS: Final = 50  # of a table of counts
_PAIRS: Final = 3_000  # distinct pairs of values, all of which Kendall's tau compares


def numbered(*raters: Sequence[Any]) -> tuple[list[Floats], list[Any]]:
    """Labels as numbers, None as NaN, and the labels in the order of their numbers.

    >>> numbered(["b", "a"], ["a", None])
    ([array([1., 0.]), array([ 0., nan])], ['a', 'b'])
    """
    labels = sorted({label for rater in raters for label in rater if label is not None}, key=str)
    number = {label: float(at) for at, label in enumerate(labels)}
    return [np.array([number.get(label, np.nan) for label in rater]) for rater in raters], labels


def accuracy(judge: npt.ArrayLike, gold: npt.ArrayLike, prompts: Prompts = None) -> Estimate:
    """Share of rows whose label is the gold one. Raw agreement is no proof: see `cohen_kappa`."""
    first, second, kept = _both(judge, gold, prompts)
    return share(first == second, kept)


def cohen_kappa(
    judge: npt.ArrayLike,
    gold: npt.ArrayLike,
    prompts: Prompts = None,
    *,
    weights: Literal["none", "linear", "quadratic"] = "none",
    draws: int = 1_000,
) -> Estimate:
    """Agreement beyond chance, ``1 - observed / expected`` disagreement of two raters.

    Cohen 1960; with ``weights`` a disagreement counts by the distance of the two numbers, or its
    square (Cohen 1968), which is for scores, not for labels without an order.

    >>> judge, gold = [1, 1, 0, 1, 0, 0, 1, 1], [1, 1, 0, 1, 0, 1, 0, 1]
    >>> round(cohen_kappa(judge, gold).value, 3)
    0.467

    Raises:
        NotEstimableError: one of them always gives a single label, or there are too few prompts.
    """
    first, second, kept = _both(judge, gold, prompts)
    if min(np.ptp(first), np.ptp(second)) == 0 and (first != second).any():
        raise NotEstimableError("one of both gives a single label: kappa is 0 whatever it is")
    if weights == "quadratic":
        return bootstrap(_squares(first, second), first.size, kept, draws=draws)
    values, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    labels = values.size
    if labels > _LABELS:
        raise NotEstimableError(f"{labels} different values; a table has {_LABELS} at most")
    distance = abs(values[:, None] - values) if weights == "linear" else 1 - np.eye(labels)
    one, other = np.eye(labels)[codes[: first.size]], np.eye(labels)[codes[first.size :]]
    observed = distance[codes[: first.size], codes[first.size :]]

    def statistic(weight: Floats) -> Floats:
        expected = np.einsum("dk,kl,dl->d", weight @ one, distance, weight @ other)
        return _one_minus(weight @ observed * weight.sum(1), expected)

    chance = one.mean(0) @ (1 - np.eye(labels)) @ other.mean(0)
    return bootstrap(statistic, first.size, kept, draws=draws, disagreement_by_chance=chance or 1.0)


def _squares(first: Floats, second: Floats) -> Any:
    """Kappa with squared distances, from sums: ``1 - E (x - y)² / E (x - y')²``."""
    middle = np.concatenate([first, second]).mean()
    x, y = first - middle, second - middle
    sums = np.stack([np.ones_like(x), x, y, x * x, y * y, (x - y) ** 2], 1)

    def statistic(weight: Floats) -> Floats:
        n, of_x, of_y, squares_x, squares_y, observed = (weight @ sums).T
        expected = n * (squares_x + squares_y) - 2 * of_x * of_y
        return _one_minus(observed * n, expected)

    return statistic


def _one_minus(observed: Floats, expected: Floats) -> Floats:
    known = expected > 1e-12
    return np.where(known, 1 - observed / np.where(known, expected, 1.0), np.nan)


def krippendorff_alpha(
    ratings: npt.ArrayLike, prompts: Prompts = None, *, level: Level = "nominal", draws: int = 1_000
) -> Estimate:
    """Agreement of any number of raters, ``ratings`` (raters, rows) with NaN where one is missing.

    Krippendorff 2011, Computing Krippendorff's Alpha-Reliability. ``level`` is what a distance of
    two values is: unequal, of their ranks squared, or of the numbers squared. Rows with fewer than
    two ratings do not count.

    Raises:
        NotEstimableError: all ratings are the same, or there are too few prompts.
    """
    table = np.asarray(ratings, float)
    paired = np.isfinite(table).sum(0) >= 2
    table = table[:, paired]
    kept = None if prompts is None else np.asarray(prompts)[paired]
    values, codes = np.unique(table[np.isfinite(table)], return_inverse=True)
    if not values.size:
        raise NotEstimableError("no row has two ratings")
    numbers = np.full(table.shape, -1)
    numbers[np.isfinite(table)] = codes
    chance = 1 - ((np.bincount(codes) / codes.size) ** 2).sum()
    if level == "nominal":
        statistic = _nominal_alpha(numbers, values.size)
    else:
        statistic = _squared_alpha(numbers, values, level == "ordinal")
    return bootstrap(
        statistic, table.shape[1], kept, draws=draws, disagreement_by_chance=chance or 1.0
    )


def _nominal_alpha(numbers: npt.NDArray[Any], labels: int) -> Any:
    if labels > _LABELS:
        raise NotEstimableError(f"{labels} different labels, at most {_LABELS} are compared")
    counts = np.stack([(numbers == label).sum(0) for label in range(labels)], 1).astype(float)
    raters = counts.sum(1, keepdims=True)
    observed = (counts * (raters - counts) / (raters - 1)).sum(1)

    def statistic(weight: Floats) -> Floats:
        of_label = weight @ counts
        n = of_label.sum(1)
        return _one_minus((n - 1) * (weight @ observed), n**2 - (of_label**2).sum(1))

    return statistic


def _squared_alpha(numbers: npt.NDArray[Any], values: Floats, ranked: bool) -> Any:
    """Alpha by squared differences of the values, or of their mid-ranks among all the ratings."""
    there = (numbers >= 0).astype(float)
    raters = there.sum(0)
    centred = values - values.mean()
    rows = [rater >= 0 for rater in numbers]
    rated = [
        (own, _masses(rater[own], values.size)) for own, rater in zip(rows, numbers, strict=True)
    ]

    def statistic(weight: Floats) -> Floats:
        mass = sum((masses(weight[:, own]) for own, masses in rated), start=np.zeros(1))
        scale = np.cumsum(mass, 1) - mass / 2 if ranked else np.tile(centred, (len(weight), 1))
        total, squares = np.zeros_like(weight), np.zeros_like(weight)
        for rater, seen in zip(numbers, there, strict=True):
            value = scale[:, rater] * seen
            total += value
            squares += value * value
        observed = (weight * 2 * (raters * squares - total**2) / (raters - 1)).sum(1)
        n = mass.sum(1)
        expected = 2 * (n * (mass * scale**2).sum(1) - (mass * scale).sum(1) ** 2)
        return _one_minus((n - 1) * observed, expected)

    return statistic


def spearman(
    judge: npt.ArrayLike, gold: npt.ArrayLike, prompts: Prompts = None, *, draws: int = 1_000
) -> Estimate:
    """Spearman's rank correlation, ties with their mid-rank."""
    first, second, kept = _both(judge, gold, prompts)
    return bootstrap(rank_correlation(first, second), first.size, kept, draws=draws)


def rank_correlation(first: Floats, second: Floats) -> Statistic:
    """Spearman's rank correlation of two numbers a row as a function of weights of rows."""
    ranks = _mid_ranks(first), _mid_ranks(second)

    def statistic(weight: Floats) -> Floats:
        n = weight.sum(1, keepdims=True)
        x, y = (rank(weight) for rank in ranks)
        x, y = (rank - (weight * rank).sum(1, keepdims=True) / n for rank in (x, y))
        both = (weight * x * y).sum(1)
        spread = np.sqrt((weight * x * x).sum(1) * (weight * y * y).sum(1))
        return np.where(spread > 1e-9, both / np.maximum(spread, 1e-9), np.nan)

    return statistic


def kendall_tau(
    judge: npt.ArrayLike, gold: npt.ArrayLike, prompts: Prompts = None, *, draws: int = 1_000
) -> Estimate:
    """Kendall's tau-b: pairs of rows in the same order less those in the other; ties corrected."""
    first, second, kept = _both(judge, gold, prompts)
    cells, cell = np.unique(np.stack([first, second], 1), axis=0, return_inverse=True)
    if len(cells) > _PAIRS:
        raise NotEstimableError(f"{len(cells):,} distinct pairs of values, at most {_PAIRS:,}")
    x, y = (np.sign(column[:, None] - column) for column in cells.T)
    signs, tied_not = x * y, (abs(x), abs(y))
    masses = _masses(cell.ravel(), len(cells))

    def statistic(weight: Floats) -> Floats:
        mass = masses(weight)
        both, of_x, of_y = ((mass @ part * mass).sum(1) for part in (signs, *tied_not))
        spread = np.sqrt(of_x * of_y)
        return np.where(spread > 0, both / np.where(spread > 0, spread, 1.0), np.nan)

    return bootstrap(statistic, first.size, kept, draws=draws)


def _masses(codes: npt.NDArray[Any], values: int) -> Callable[[Floats], Floats]:
    """From weights of rows (draws, rows) to the weight of each value (draws, values)."""
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(values + 1))

    def masses(weight: Floats) -> Floats:
        sums = np.concatenate([np.zeros((len(weight), 1)), np.cumsum(weight[:, order], 1)], 1)
        return np.diff(sums[:, ends], axis=1)

    return masses


def _mid_ranks(values: Floats) -> Callable[[Floats], Floats]:
    """From weights of rows (draws, rows) to the mid-rank of each row (draws, rows)."""
    _, codes = np.unique(values, return_inverse=True)
    masses = _masses(codes, int(codes.max()) + 1)

    def ranks(weight: Floats) -> Floats:
        mass = masses(weight)
        found: Floats = (np.cumsum(mass, 1) - mass / 2)[:, codes]
        return found

    return ranks


def _both(
    judge: npt.ArrayLike, gold: npt.ArrayLike, prompts: Prompts
) -> tuple[Floats, Floats, npt.NDArray[Any] | None]:
    """The rows that both have rated."""
    first, second = np.asarray(judge, float), np.asarray(gold, float)
    known = np.isfinite(first) & np.isfinite(second)
    if not known.any():
        raise NotEstimableError("no row was rated by both")
    return first[known], second[known], None if prompts is None else np.asarray(prompts)[known]
