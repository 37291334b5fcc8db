"""Fit a quality head: ridge or logistic regression, its strength and figures by cross-validation.

The rows of a prompt are always in one fold. Figures are of nested cross-validation: the folds that
a row is judged by have chosen the strength of the penalty without it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from siftune.curate.core.errors import DataError
from siftune.curate.heads.calibrating import calibrated, figures, unit
from siftune.curate.heads.features import Block, Features
from siftune.curate.heads.head import Head
from siftune.curate.judge_stats.calibration import Kind, Method
from siftune.curate.judge_stats.intervals import Floats, prompt_index

__all__ = ["LEAST", "Labelled", "cross_fitted", "fit_head"]

LEAST: Final = 50
"""Labelled rows that a fit needs, of as many prompts as there are folds, twice."""
_FOLDS: Final = 5
_PENALTIES: Final = (10.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
_LONGEST: Final = 30.0  # log-odds; larger ones are the same to a double


@dataclass(frozen=True)
class Labelled:
    """Rows with labels: of each its prompt, its answer and a number.

    Of ``pairs`` the label is how likely the answer is better than the one in ``others``, 0 to 1.
    ``groups`` names what stays together in folds and intervals, by default the prompt.
    """

    kind: Kind
    prompts: Sequence[str | None]
    answers: Sequence[str | None]
    labels: Floats
    others: Sequence[str | None] | None = None
    groups: Sequence[Any] | None = None


def fit_head(rows: Labelled, features: Features, method: Method = "platt", seed: int = 0) -> Head:
    """Fit a head to labelled rows, calibrate it, and measure it by cross-validation.

    Columns are scaled so that each block of features has its variance (`Block`). Ratings are
    fitted by ridge regression, binary labels and pairs by logistic regression with an L2 penalty,
    pairs on the difference of their answers' features, without an offset (Bradley-Terry). The
    calibration (Platt 1999, or isotonic) is fitted on scores of rows that were held out.

    Raises:
        DataError: too few rows or prompts, or labels that are all the same.
    """
    x, known = _matrix(rows, features)
    labels, low, high = unit(rows.kind, rows.labels[known])
    index, count = _groups(rows, known)
    _refuse_few(rows.kind, labels, count)
    center, scale = _scaling(x, features.blocks, rows.kind)
    fitted = _Fit(rows.kind, (x - center) / scale, labels, index, seed)
    raw = fitted.held_out()
    calibration, why_not = calibrated(rows.kind, raw, labels, index, method)
    penalty = fitted.best(np.ones(labels.size, bool))
    weights, offset = fitted.solve(np.ones(labels.size, bool), penalty)
    weights = weights / scale
    facts = {
        "rows": int(labels.size),
        "prompts": count,
        "left_out": int((~known).sum()),
        "penalty": penalty,
        "folds": _FOLDS,
        "seed": seed,
        "uncalibrated": why_not,
        "figures": figures(rows.kind, raw, calibration.cross_fitted, labels, high - low, index),
    }
    return Head(
        rows.kind,
        Features.of(features.describe(), features.cache),
        weights,
        float(offset - center @ weights),
        calibration.calibrator,
        low,
        high,
        facts,
    )


def cross_fitted(rows: Labelled, features: Features, seed: int = 0) -> Floats:
    """The linear function of each row, by folds fitted without its prompt; NaN without features.

    Raises:
        DataError: as `fit_head`.
    """
    x, known = _matrix(rows, features)
    labels, _, _ = unit(rows.kind, rows.labels[known])
    index, count = _groups(rows, known)
    _refuse_few(rows.kind, labels, count)
    center, scale = _scaling(x, features.blocks, rows.kind)
    found = np.full(known.size, np.nan)
    found[known] = _Fit(rows.kind, (x - center) / scale, labels, index, seed).held_out()
    return found


def _groups(rows: Labelled, known: Any) -> tuple[Any, int]:
    given = rows.prompts if rows.groups is None else rows.groups
    kept = [one for one, there in zip(given, known, strict=True) if there]
    return prompt_index(kept, len(kept))


def _matrix(rows: Labelled, features: Features) -> tuple[Floats, Any]:
    """Features of the rows that have all, and which rows these are."""
    x = features(rows.prompts, rows.answers)
    if rows.others is not None:
        x = x - features(rows.prompts, rows.others)
    known = np.isfinite(x).all(1) & np.isfinite(rows.labels)
    return x[known], known


def _refuse_few(kind: Kind, labels: Floats, prompts: int) -> None:
    if labels.size < LEAST or prompts < 2 * _FOLDS:
        raise DataError(
            f"{labels.size:,} labelled rows of {prompts:,} prompts: expected at least {LEAST} of "
            f"{2 * _FOLDS} prompts"
        )
    if kind == "pairs":
        if np.all(labels == 0.5):
            raise DataError("all pairs are ties: a head needs answers that are better than others")
        return
    if np.ptp(labels) == 0:
        raise DataError("all labels are the same: a head needs rows that differ")


def _scaling(x: Floats, blocks: Sequence[Block], kind: Kind) -> tuple[Floats, Floats]:
    """What is taken off each column, and what it is divided by; differences are not centred."""
    center = np.zeros(x.shape[1]) if kind == "pairs" else x.mean(0)
    spread = np.sqrt(((x - center) ** 2).mean(0))
    size = np.concatenate([np.full(size, np.sqrt(size / variance)) for size, variance in blocks])
    return center, np.where(spread > 1e-9, spread, 1.0) * size


class _Fit:
    """Fits on parts of the rows; ``x`` (rows, features) is scaled."""

    def __init__(self, kind: Kind, x: Floats, y: Floats, index: Any, seed: int) -> None:
        self._kind, self._x, self._y, self._index = kind, x, y, index
        self._seed = seed

    def solve(self, part: Any, penalty: float) -> tuple[Floats, float]:
        """Weights (features,) and offset."""
        weights, offset = next(self._path(part, (penalty,)))
        return weights, offset

    def best(self, part: Any) -> float:
        """The penalty with the smallest loss on folds that were held out; ties take the larger."""
        losses = np.zeros(len(_PENALTIES))
        for inside, outside in self._folds(part):
            for at, (weights, offset) in enumerate(self._path(inside, _PENALTIES)):
                losses[at] += self._loss(self._x[outside] @ weights + offset, self._y[outside])
        return _PENALTIES[int(losses.argmin())]

    def held_out(self) -> Floats:
        """Values of the linear function for each row, from the folds without its prompt."""
        found = np.full(self._y.size, np.nan)
        for inside, outside in self._folds(np.ones(self._y.size, bool)):
            weights, offset = self.solve(inside, self.best(inside))
            found[outside] = self._x[outside] @ weights + offset
        return found

    def _folds(self, part: Any) -> Any:
        """Masks of the rows that are fitted on, and of those that are held out."""
        prompts = np.unique(self._index[part])
        fold = np.zeros(self._index.max() + 1, int)
        order = np.random.default_rng(self._seed).permutation(prompts.size)
        fold[prompts] = order % _FOLDS
        for one in range(_FOLDS):
            yield part & (fold[self._index] != one), part & (fold[self._index] == one)

    def _loss(self, raw: Floats, y: Floats) -> float:
        if self._kind == "rating":
            return float(((raw - y) ** 2).sum())
        return float((np.logaddexp(0, raw) - y * raw).sum())

    def _path(self, part: Any, penalties: Sequence[float]) -> Any:
        x, y = self._x[part], self._y[part]
        return (_ridge if self._kind == "rating" else _logistic(self._kind))(x, y, penalties)


def _ridge(x: Floats, y: Floats, penalties: Sequence[float]) -> Any:
    center, middle = x.mean(0), float(y.mean())
    left, singular, right = np.linalg.svd(x - center, full_matrices=False)
    told = left.T @ (y - middle)
    for penalty in penalties:
        weights = right.T @ (told * singular / (singular**2 + penalty * y.size))
        yield weights, middle - float(center @ weights)


def _logistic(kind: Kind) -> Callable[[Floats, Floats, Sequence[float]], Any]:
    free = kind != "pairs"  # whether there is an offset

    def path(x: Floats, y: Floats, penalties: Sequence[float]) -> Any:
        from scipy.optimize import minimize

        at = np.zeros(x.shape[1] + 1)
        for penalty in penalties:  # the strongest first: each starts where the last one ended
            at = minimize(
                _log_loss, at, (x, y, penalty, free), "L-BFGS-B", jac=True, options={"gtol": 1e-6}
            ).x
            yield at[:-1].copy(), float(at[-1])

    return path


def _log_loss(at: Floats, x: Floats, y: Floats, penalty: float, free: bool) -> tuple[float, Floats]:
    raw = x @ at[:-1] + at[-1]
    off = 1 / (1 + np.exp(-np.clip(raw, -_LONGEST, _LONGEST))) - y
    loss = float((np.logaddexp(0, raw) - y * raw).mean() + penalty / 2 * at[:-1] @ at[:-1])
    gradient = np.append(x.T @ off / y.size + penalty * at[:-1], off.mean() if free else 0.0)
    return loss, gradient
