"""Calibration of a judge's scores on gold rows, cross-fitted; calibration error and Brier score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.intervals import (
    Estimate,
    Floats,
    NotEstimableError,
    cluster_sums,
    critical_value,
    prompt_index,
    share,
    unseen,
)
from siftune.curate.judge_stats.logistic import fit_logistic

__all__ = [
    "Calibration",
    "Calibrator",
    "Kind",
    "Method",
    "Scale",
    "brier",
    "calibrate",
    "rms_calibration_error",
]

Prompts: TypeAlias = Sequence[Any] | npt.NDArray[Any] | None
Method: TypeAlias = Literal["platt", "isotonic", "temperature", "linear"]
Kind: TypeAlias = Literal["rating", "binary", "pairs"]
"""What a trained judge learned from: numbers, a yes or no, or which of two answers is better."""

_BINS: Final = 10
_CLIP: Final = 1e-6  # of a probability from 0 and 1, whose logits are not finite
_LEAST: Final = 50  # prompts; with fewer a bin has too few


@dataclass(frozen=True)
class Calibrator:
    """A map from scores to probabilities of a gold 1, as plain numbers that JSON holds.

    ``scores`` and ``probabilities`` are its knots; Platt's curve has ``slope`` and ``offset``
    instead, ``σ(slope score + offset)``, and so has a line, which ends at 0 and 1; temperature has
    ``slope`` alone, 1 / T: ``σ(slope logit(score))``.
    """

    method: Method
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    slope: float = 0.0
    offset: float = 0.0

    def __call__(self, scores: npt.ArrayLike) -> Floats:
        """Probabilities; NaN stays NaN."""
        given = np.asarray(scores, float)
        if self.method == "temperature":
            given = _logit(given)
        if self.method in ("platt", "temperature"):
            return np.asarray(1 / (1 + np.exp(-(self.slope * given + self.offset))))
        if self.method == "linear":
            return np.clip(self.slope * given + self.offset, 0.0, 1.0)
        found = np.interp(given, self.scores, self.probabilities)
        return np.where(np.isnan(given), np.nan, found)

    @property
    def chance(self) -> str | None:
        """How the curve shows scores no better than chance, by which it should not be used."""
        if self.method == "isotonic":
            flat = self.probabilities[0] == self.probabilities[-1]
            return "one probability for all scores" if flat else None
        return f"slope {self.slope:.2f}, which reverses" if self.slope <= 0 else None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Calibrator:
        """The calibrator that ``dataclasses.asdict`` made ``facts`` of, which JSON has held."""
        knots = {name: tuple(facts[name]) for name in ("scores", "probabilities")}
        return cls(**{**facts, **knots})


@dataclass(frozen=True)
class Scale:
    """The scores that the raw numbers of a trained judge become, by its calibration.

    Of ``rating`` they are numbers from ``low`` to ``high``, the range of its labels, of ``binary``
    probabilities; of ``pairs`` strengths, of which the difference between two answers to a prompt
    is the log-odds of the first being better (Bradley and Terry 1952).
    """

    kind: Kind
    calibrator: Calibrator
    low: float = 0.0
    high: float = 1.0

    def __call__(self, raw: npt.ArrayLike) -> Floats:
        """Calibrated scores; NaN stays NaN."""
        given = np.asarray(raw, float)
        if self.kind == "pairs":
            return self.calibrator.slope * given
        return self.low + (self.high - self.low) * self.calibrator(given)


@dataclass(frozen=True)
class Calibration:
    """A calibrator, and the probabilities that folds without the row gave each gold row (rows,)."""

    calibrator: Calibrator
    cross_fitted: Floats


def calibrate(
    scores: npt.ArrayLike,
    gold: npt.ArrayLike,
    prompts: Prompts = None,
    *,
    method: Method = "platt",
    folds: int = 5,
) -> Calibration:
    """Fit a `Calibrator` of ``scores`` on ``gold`` (0 or 1; isotonic and linear: any in 0 … 1).

    Platt 1999 has two numbers and does with dozens of gold rows; isotonic regression (Zadrozny and
    Elkan 2002) takes any monotone shape and wants hundreds; a line, by least squares, is for scores
    that are estimates of ``gold`` already; temperature (Guo et al. 2017, arXiv:1706.04599) has one
    number, is of probabilities, and leaves ½ where it is. Judge a calibration only by its
    cross-fitted probabilities: the rows of a prompt are all in one fold.

    Raises:
        NotEstimableError: too few rows or prompts, or gold has one label only.
    """
    given, truth = np.asarray(scores, float), np.asarray(gold, float)
    known = np.isfinite(given) & np.isfinite(truth)
    index, count = prompt_index(
        None if prompts is None else np.asarray(prompts)[known], known.sum()
    )
    if count < folds:
        raise NotEstimableError(
            f"{folds} prompts with gold labels at least are needed, got {count}"
        )
    x, y = given[known], truth[known]
    fold = np.random.default_rng(0).permutation(count)[index] % folds
    held_out = np.full(x.size, np.nan)
    for one in range(folds):
        held_out[fold == one] = _fitted(method, x[fold != one], y[fold != one])(x[fold == one])
    found = np.full(given.size, np.nan)
    found[known] = held_out
    return Calibration(_fitted(method, x, y), found)


def _fitted(method: Method, scores: Floats, gold: Floats) -> Calibrator:
    if np.ptp(gold) == 0:
        raise NotEstimableError("the gold rows of a fold have one label only")
    if method == "isotonic":
        return _isotonic(scores, gold)
    spread = scores.std()
    if spread == 0:
        raise NotEstimableError("the judge gave every row the same score")
    if method == "temperature":
        return _temperature(scores, gold)
    if method == "linear":
        slope = float(np.mean((scores - scores.mean()) * (gold - gold.mean()))) / spread**2
        return Calibrator("linear", slope=slope, offset=float(gold.mean() - slope * scores.mean()))
    # Platt's targets: pulled in by one row of each label, so that separated scores have a fit
    wins, losses = gold.sum(), (1 - gold).sum()
    target = gold * (wins + 1) / (wins + 2) + (1 - gold) / (losses + 2)
    features = np.stack([(scores - scores.mean()) / spread, np.ones(scores.size)], 1)
    slope, offset = fit_logistic(features, target).coefficients
    return Calibrator(
        "platt", slope=float(slope / spread), offset=float(offset - slope * scores.mean() / spread)
    )


def _temperature(scores: Floats, gold: Floats) -> Calibrator:
    if scores.min() < 0 or scores.max() > 1:
        raise NotEstimableError("a temperature is of probabilities, 0 to 1")
    fitted = fit_logistic(_logit(scores)[:, None], gold)
    return Calibrator("temperature", slope=float(fitted.coefficients[0]))


def _logit(probabilities: Floats) -> Floats:
    inside = np.clip(probabilities, _CLIP, 1 - _CLIP)
    found: Floats = np.log(inside / (1 - inside))
    return found


def _isotonic(scores: Floats, gold: Floats) -> Calibrator:
    from scipy.optimize import isotonic_regression

    values, at = np.unique(scores, return_inverse=True)
    rows = np.bincount(at)
    fitted = isotonic_regression(np.bincount(at, weights=gold) / rows, weights=rows).x
    return Calibrator("isotonic", tuple(values.tolist()), tuple(fitted.tolist()))


def brier(probabilities: npt.ArrayLike, gold: npt.ArrayLike, prompts: Prompts = None) -> Estimate:
    """Mean squared difference of probability and gold label; 0.25 is that of always 0.5."""
    off = (np.asarray(probabilities, float) - np.asarray(gold, float)) ** 2
    known = np.isfinite(off)
    return share(off[known], None if prompts is None else np.asarray(prompts)[known])


def rms_calibration_error(
    probabilities: npt.ArrayLike, gold: npt.ArrayLike, prompts: Prompts = None
) -> Estimate:
    """Root mean square distance of probability and share of gold 1, over bins of equally many rows.

    The usual ECE, a mean of absolute distances, is above 0 for a calibrated judge too, and no
    interval of it covers 0 then. So the distances are squared and estimated without bias, from
    pairs of rows of different prompts (Kumar, Liang and Ma 2019, arXiv:1909.10155); the ends of
    the interval are the errors that this estimate would be 1.96 standard errors from, with the
    standard error that it has there. Where all distances are short, as of a judge that is always
    right, they are at least the errors with as many long ones, in one bin, as could be `unseen`.
    """
    given, truth = np.asarray(probabilities, float), np.asarray(gold, float)
    known = np.isfinite(given) & np.isfinite(truth)
    index, count = prompt_index(
        None if prompts is None else np.asarray(prompts)[known], known.sum()
    )
    x, off = given[known], (given - truth)[known]
    if count < _LEAST:
        raise NotEstimableError(f"{_LEAST} prompts with gold labels at least, got {count}")
    edges = np.unique(np.quantile(x, np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = np.eye(edges.size + 1)[np.searchsorted(edges, x, side="right")]
    rows = np.stack([cluster_sums(one, index, count) for one in bins.T])
    squares = rows.sum(1) ** 2 - (rows**2).sum(1)
    weight = np.where(squares > 0, rows.sum(1) / x.size / np.maximum(squares, 1), 0.0)
    gaps = np.stack([cluster_sums(one * off, index, count) for one in bins.T])
    squared = float(_between(weight, gaps).sum())
    noise = gaps - rows * (gaps.sum(1) / np.maximum(rows.sum(1), 1))[:, None]
    products = (weight[:, None] * noise) @ noise.T
    variance = max(0.0, float(((products * products.T).sum()) - (_own(weight, noise) ** 2).sum()))
    z = critical_value(count - 1)
    unit = z**2 * np.sqrt(variance / len(rows))
    half = np.sqrt(max(0.0, 4 * unit * (unit + squared) + 2 * z**2 * variance))
    ends = np.sqrt(np.maximum([squared, squared + 2 * unit - half, squared + 2 * unit + half], 0))
    value, low, high = map(float, ends)
    others = unseen(count) * (1 - float(np.abs(off).max()))
    low = min(low, max(0.0, value - others))
    high = max(high, min(1.0, math.hypot(value, math.sqrt(len(bins.T)) * others)))
    return Estimate(value, low, high, x.size, count)


def _own(weight: Floats, sums: Floats) -> Floats:
    """Of each prompt, the weighted product of its sums with themselves."""
    own: Floats = weight @ sums**2
    return own


def _between(weight: Floats, sums: Floats) -> Floats:
    """Of each prompt, the weighted products of its sums with those of the other prompts."""
    between: Floats = (weight * sums.sum(1)) @ sums - _own(weight, sums)
    return between
