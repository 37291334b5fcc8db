"""Calibration of a trained judge on rows that it was not fitted to, and its figures there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from siftune.curate.core.errors import DataError
from siftune.curate.judge_stats.agreement import accuracy, spearman
from siftune.curate.judge_stats.calibration import (
    Calibration,
    Calibrator,
    Kind,
    Method,
    brier,
    calibrate,
    rms_calibration_error,
)
from siftune.curate.judge_stats.intervals import Estimate, Floats, NotEstimableError, mean

__all__ = ["calibrated", "figures", "plain", "unit"]


def unit(kind: Kind, labels: Floats) -> tuple[Floats, float, float]:
    """Labels from 0 to 1, and their range."""
    if kind != "rating" or not labels.size:
        return labels, 0.0, 1.0
    low, high = float(labels.min()), float(labels.max())
    return (labels - low) / max(high - low, 1e-12), low, high


def plain(kind: Kind) -> Calibrator:
    """Raw numbers taken for what they were trained to be: a rating (0 to 1), or log-odds."""
    if kind == "rating":
        return Calibrator("linear", slope=1.0)
    return Calibrator("platt", slope=1.0)


def calibrated(
    kind: Kind,
    raw: Floats,
    labels: Floats,
    index: Any,
    method: Method,
    otherwise: Calibrator | None = None,
) -> tuple[Calibration, str | None]:
    """The calibration of ``raw`` on ``labels`` (0 to 1), or why there is none.

    Without one the numbers stay what ``otherwise`` makes of them; None: log-odds stay log-odds, and
    what has none is refused. There is none either where it would reverse the judge: a curve that
    falls makes a judge out of one that is wrong more often than right.

    Raises:
        DataError: there is neither.
    """
    x, y, prompts = raw, labels, index
    if kind == "pairs":  # each pair in both orders: the curve is then symmetric
        x, y, prompts = np.append(raw, -raw), np.append(labels, 1 - labels), np.tile(index, 2)
    try:
        found = calibrate(x, y, prompts, method=method)
    except NotEstimableError as error:
        if otherwise is None and (kind == "rating" or np.ptp(x) == 0):
            raise DataError(f"the head cannot be calibrated: {error}") from None
        identity = otherwise or plain(kind)
        return Calibration(identity, identity(raw)), str(error)
    if found.calibrator.chance is not None:
        identity = otherwise or plain(kind)
        why = f"it does no better than chance on held-out rows ({found.calibrator.chance})"
        return Calibration(identity, identity(raw)), why
    if kind != "pairs":
        return found, None
    symmetric = Calibrator("platt", slope=found.calibrator.slope)  # an offset is rounding
    return Calibration(symmetric, found.cross_fitted[: raw.size]), None


def figures(
    kind: Kind,
    raw: Floats,
    told: Floats,
    labels: Floats,
    width: float,
    index: Any,
    before: Floats | None = None,
) -> dict[str, Any]:
    """Estimates with their intervals by name, or the reason why there is none.

    ``told`` are the scores (0 to 1) of rows by calibrations that were fitted without them,
    ``before`` those without any; ``width`` is that of the labels' range. The accuracy of pairs is
    that of ``raw``: what is better is no matter of the calibration.
    """
    made = _of_ratings if kind == "rating" else _of_labels
    found = _estimated(made(kind, raw, told, labels, width, index))
    if before is not None:
        error = "mean_absolute_error" if kind == "rating" else "calibration_error"
        other = made(kind, raw, before, labels, width, index)
        found |= _estimated({f"{error}_before": other[error]})
    return found


_Figures = Mapping[str, Callable[[], Estimate]]


def _of_ratings(
    kind: Kind, raw: Floats, told: Floats, labels: Floats, width: float, index: Any
) -> _Figures:
    off = labels - labels.mean()
    return {
        "spearman": lambda: spearman(raw, labels, index),
        "mean_absolute_error": lambda: mean(width * np.abs(told - labels), index),
        "mean_absolute_error_of_the_mean": lambda: mean(width * np.abs(off), index),
    }


def _of_labels(
    kind: Kind, raw: Floats, told: Floats, labels: Floats, width: float, index: Any
) -> _Figures:
    sure = labels != 0.5
    yes = raw > 0 if kind == "pairs" else told > 0.5
    both = [told, labels, index]
    if kind == "pairs":  # in one order alone the better answer would always be the first
        both = [np.append(told, 1 - told), np.append(labels, 1 - labels), np.tile(index, 2)]
    return {
        "accuracy": lambda: accuracy(yes[sure], (labels > 0.5)[sure], index[sure]),
        "brier": lambda: brier(told, labels, index),
        "calibration_error": lambda: rms_calibration_error(*both),
    }


def _estimated(made: _Figures) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, figure in made.items():
        try:
            one = figure()
            found[name] = {"value": one.value, "low": one.low, "high": one.high}
        except NotEstimableError as error:
            found[name] = {"value": None, "why": str(error)}
    return found
