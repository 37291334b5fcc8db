"""Calibration of a reward model: how likely the answer with the higher score is the better one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.calibration import Calibrator, calibrate
from siftune.curate.judge_stats.intervals import Floats, NotEstimableError, prompt_index

__all__ = ["PairCalibration", "calibrate_gaps", "expected_calibration_error", "pair_probability"]

_BINS: Final = 10
_FOLDS: Final = 5
_ISOTONIC: Final = 1_000
"""Held-out pairs from which on isotonic regression is tried; it has as many numbers as steps."""


@dataclass(frozen=True)
class PairCalibration:
    """``P(first is better) = σ(gap / temperature)``, fitted to held-out pairs.

    ``gap`` is the difference of two scores. A ``temperature`` above 1 is that of an overconfident
    model. ``steps`` is an isotonic curve in place of it, where that has the smaller held-out loss.
    ``ece_before`` and ``ece`` are the expected calibration error without and with the calibration,
    the latter cross-fitted: a prompt is calibrated by folds without it.
    """

    temperature: float
    steps: Calibrator | None
    ece_before: float
    ece: float
    pairs: int
    prompts: int

    def __call__(self, gaps: npt.ArrayLike) -> Floats:
        """Probabilities that the first answer of each pair is the better one; NaN stays NaN."""
        if self.steps is not None:
            return self.steps(gaps)
        return pair_probability(np.asarray(gaps, float) / self.temperature)

    def facts(self) -> dict[str, Any]:
        """The calibration as plain values, for `siftune.json`."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> PairCalibration:
        """The calibration that `facts` described."""
        steps = facts.get("steps")
        return cls(**{**facts, "steps": None if steps is None else Calibrator.of(steps)})


def calibrate_gaps(gaps: npt.ArrayLike, prompts: Sequence[Any]) -> PairCalibration:
    """Calibrate differences of scores, better answer less worse one, on held-out pairs.

    Temperature scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2): the logistic regression of
    "this answer is better" on the gap, without an offset, so that the curve is symmetric; with
    Platt's targets (1999), by which pairs that are all right have a temperature too. From 1,000
    pairs on isotonic regression (Zadrozny and Elkan 2002) is tried as well, each pair in both
    orders, and taken where its cross-fitted log-loss is smaller. The pairs of a prompt are in one
    fold of five.

    Raises:
        NotEstimableError: too few prompts, one score for all, or a model that is no better than
            chance, which no temperature corrects.
    """
    given = np.asarray(gaps, float)
    known = np.isfinite(given)
    index, count = prompt_index(np.asarray(prompts)[known], int(known.sum()))
    if count < _FOLDS:
        raise NotEstimableError(f"{_FOLDS} held-out prompts at least are needed, got {count}")
    gap = given[known]
    slope, chosen, steps = _slope(gap), np.empty_like(gap), None
    fold = np.random.default_rng(0).permutation(count)[index] % _FOLDS
    for one in range(_FOLDS):
        chosen[fold == one] = pair_probability(_slope(gap[fold != one]) * gap[fold == one])
    if gap.size >= _ISOTONIC:
        both, labels = np.append(gap, -gap), np.repeat([1.0, 0.0], gap.size)
        curve = calibrate(both, labels, np.tile(index, 2), method="isotonic")
        if _log_loss(curve.cross_fitted[: gap.size]) < _log_loss(chosen):
            chosen, steps = curve.cross_fitted[: gap.size], curve.calibrator
    return PairCalibration(
        temperature=1 / slope,
        steps=steps,
        ece_before=expected_calibration_error(pair_probability(gap)),
        ece=expected_calibration_error(chosen),
        pairs=int(gap.size),
        prompts=count,
    )


def _slope(gaps: Floats) -> float:
    """The factor 1 / T of the gaps that maximises the likelihood, by bisection.

    The likelihood is concave: its derivative ``Σ gap (t - σ(slope · gap))`` falls, t the target.
    """
    target = (len(gaps) + 1) / (len(gaps) + 2)

    def rises(slope: float) -> bool:
        return bool((gaps * (target - pair_probability(slope * gaps))).sum() > 0)

    if not rises(0.0):
        raise NotEstimableError("its scores rank held-out pairs no better than chance")
    low, high = 0.0, 1 / float(np.abs(gaps).max())
    while rises(high):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) else (low, middle)
    return high


def pair_probability(gaps: npt.ArrayLike) -> Floats:
    """``σ(gap)``, the probability of Bradley and Terry that the first answer is better."""
    found: Floats = 1 / (1 + np.exp(-np.clip(np.asarray(gaps, float), -500, 500)))
    return found


def expected_calibration_error(better: npt.ArrayLike, bins: int = _BINS) -> float:
    """Mean over bins of ``|accuracy - confidence|``, weighted by the pairs in each (ECE).

    ``better`` is the probability that each pair's better answer was given. The confidence is that
    of the answer that is preferred, ``max(p, 1 - p)``, so it lies in ½ … 1; ties count half. Bins
    hold equally many pairs (Nguyen and O'Connor 2015), so that none is empty; equal confidences
    share a bin. Of a calibrated model it is above 0 by chance, about ``√(2 bins / (π n)) / 2``.

    >>> expected_calibration_error([0.8, 0.8, 0.8, 0.8, 0.2])  # confidence .8, four of five right
    0.0
    >>> expected_calibration_error([0.9, 0.9, 0.1, 0.1])  # confidence .9, two of four right
    0.4
    """
    chance = np.asarray(better, float)
    chance = chance[np.isfinite(chance)]
    if not chance.size:
        return float("nan")
    confidence = np.maximum(chance, 1 - chance)
    right = np.where(chance == 0.5, 0.5, chance > 0.5)
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1]))
    of = np.searchsorted(edges, confidence, side="right")
    gaps = np.bincount(of, right - confidence)
    return round(float(np.abs(gaps).sum() / chance.size), 12)


def _log_loss(better: Floats) -> float:
    return float(-np.log(np.clip(better, 1e-6, 1)).mean())
