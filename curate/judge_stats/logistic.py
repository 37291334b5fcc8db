"""Logistic regression by maximum likelihood, with a covariance that is robust to clusters.

Used for the influence of length: AlpacaEval's length-controlled win rate, and a judge's length
bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.intervals import (
    Estimate,
    Floats,
    NotEstimableError,
    cluster_sums,
    critical_value,
    prompt_index,
)

__all__ = ["LogisticFit", "fit_logistic", "length_controlled_win_rate", "length_feature"]

Prompts: TypeAlias = Sequence[Any] | npt.NDArray[Any] | None

_STEPS: Final = 50
_LEAST: Final = 1e-9  # rest of a fit; below it is rounding alone
_LARGEST: Final = 15.0  # log-odds; beyond it the data separate


@dataclass(frozen=True)
class LogisticFit:
    """Coefficients (features,), their robust covariance, rows and prompts of a fit."""

    coefficients: Floats
    covariance: Floats
    rows: int
    prompts: int

    @property
    def quantile(self) -> float:
        """Half of an interval's width in standard errors."""
        return critical_value(self.prompts - self.coefficients.size)

    def estimate(self, at: int) -> Estimate:
        """One coefficient with its interval."""
        value = float(self.coefficients[at])
        half = self.quantile * float(np.sqrt(self.covariance[at, at]))
        return Estimate(value, value - half, value + half, self.rows, self.prompts)


def fit_logistic(features: Floats, outcomes: npt.ArrayLike, prompts: Prompts = None) -> LogisticFit:
    """Fit ``outcomes`` (rows,) in 0 … 1 on ``features`` (rows, features), without an intercept.

    An outcome between 0 and 1 is a probability, or half a win for a tie (a quasi-likelihood). There
    is no penalty. The covariance is the sandwich of White 1980 with the gradients summed by prompt,
    with Liang and Zeger's 1986 correction for few prompts.

    Raises:
        NotEstimableError: there is no outcome, the features separate the outcomes, or one of both
            does not differ.
    """
    y = np.asarray(outcomes, float)
    index, count = prompt_index(prompts, y.size)
    size = features.shape[1]
    if not y.size:
        raise NotEstimableError("no pair has a value")
    if np.ptp(y) == 0:
        raise NotEstimableError("all verdicts are the same")
    if count <= size + 1:
        raise NotEstimableError(f"{size + 2} prompts at least are needed, got {count}")
    beta = np.zeros(size)
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-features @ beta))
        hessian = (features * (chance * (1 - chance))[:, None]).T @ features
        if np.linalg.cond(hessian) > 1e10:
            raise NotEstimableError("the lengths or verdicts do not differ enough for a fit")
        step = np.linalg.solve(hessian, features.T @ (y - chance))
        beta = beta + step
        if np.abs(features @ beta).max() > _LARGEST:
            raise NotEstimableError("the fit diverges: verdicts follow from the features alone")
        if np.abs(step).max() < 1e-9:
            break
    gradients = features * (y - 1 / (1 + np.exp(-features @ beta)))[:, None]
    sums = np.stack([cluster_sums(column, index, count) for column in gradients.T])
    if np.abs(sums).max() < _LEAST:
        raise NotEstimableError(
            "the fit leaves no rest of any prompt, of which an interval is made"
        )
    bread = np.linalg.inv(hessian)
    covariance = count / (count - size) * bread @ (sums @ sums.T) @ bread
    return LogisticFit(beta, covariance, y.size, count)


def length_feature(lengths: npt.ArrayLike, other_lengths: npt.ArrayLike) -> Floats:
    """AlpacaEval's term of length: tanh of the difference over its standard deviation."""
    gap = np.asarray(lengths, float) - np.asarray(other_lengths, float)
    spread = gap.std() if gap.size else 0.0
    if not spread > 0:
        raise NotEstimableError("all pairs differ by the same length")
    feature: Floats = np.tanh(gap / spread)
    return feature


def length_controlled_win_rate(
    wins: npt.ArrayLike,
    lengths: npt.ArrayLike,
    other_lengths: npt.ArrayLike,
    prompts: Prompts = None,
    difficulty: npt.ArrayLike | None = None,
) -> tuple[Estimate, Estimate]:
    """Win rate of answers that are as long as the baseline's, and the length coefficient.

    Dubois et al. 2024, arXiv:2404.04475: ``wins`` (1, ties 0.5, 0; or probabilities) are fitted as
    ``σ(θ + φ tanh(gap / sd) + ψ difficulty)``, and the rate is the mean of ``σ(θ + ψ difficulty)``,
    the gap taken away. ``difficulty`` (default: none) is centred. AlpacaEval's program has an L1
    penalty chosen by cross-validation, and draws the coefficients to those of its gamed baselines;
    here is no penalty, for with two or three coefficients a few dozen prompts determine them, and
    where they do not, that is said. It answers what the judge would prefer at equal length, and
    removes length that made an answer better along with length that did not.
    """
    y = np.asarray(wins, float)
    known = np.isfinite(y)
    columns = [np.ones(y.size), length_feature(lengths, other_lengths)]
    if difficulty is not None:
        hard = np.asarray(difficulty, float)
        columns.append(hard - hard[known].mean())
    features = np.stack(columns, 1)[known]
    fit = fit_logistic(features, y[known], None if prompts is None else np.asarray(prompts)[known])
    equal = features.copy()
    equal[:, 1] = 0.0
    rates = 1 / (1 + np.exp(-equal @ fit.coefficients))
    rate = float(rates.mean())
    slope = (equal * (rates * (1 - rates))[:, None]).mean(0) / (rate * (1 - rate))
    half = fit.quantile * float(np.sqrt(slope @ fit.covariance @ slope))
    low, high = 1 / (1 + np.exp(-(np.log(rate / (1 - rate)) + np.array([-half, half]))))
    controlled = Estimate(rate, float(low), float(high), fit.rows, fit.prompts)
    return controlled, fit.estimate(1)
