"""Win rates from an imperfect judge: as judged, and corrected by a small gold set.

Verdicts are 1 for a win, 0 for a loss, 0.5 for a tie, NaN where there is none; ``gold`` has the
same rows, NaN where nobody labelled them. The labelled rows are a random part of the judged ones.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    share,
    unseen,
)

__all__ = ["gold_allocation", "prediction_powered", "rogan_gladen", "win_rate"]

Prompts: TypeAlias = Sequence[Any] | npt.NDArray[Any] | None

_LEAST: Final = 2  # gold rows of each label, or for a mean


def win_rate(judge: npt.ArrayLike, prompts: Prompts = None) -> Estimate:
    """Share of wins as the judge has them, ties half: it has the judge's errors in it."""
    wins = np.asarray(judge, float)
    known = np.isfinite(wins)
    return share(wins[known], None if prompts is None else np.asarray(prompts)[known])


def rogan_gladen(judge: npt.ArrayLike, gold: npt.ArrayLike, prompts: Prompts = None) -> Estimate:
    """True win rate ``(p + q0 - 1) / (q0 + q1 - 1)``: q0 is the specificity, q1 the sensitivity.

    Rogan and Gladen 1978; the interval is Lang and Reiczigel's 2014, as in arXiv:2511.21140: it has
    the sampling of ``p`` (share of wins among rows without gold) and of ``q0`` and ``q1`` (among
    gold losses and wins) in it; of each the number of draws is the effective one by prompts.
    Ties, of the judge or of gold, are no outcome of this model: such rows are left out. What it
    assumes: the judge errs as often on the gold rows as on the others, given the true label. So
    the gold rows may have another win rate than the rest.

    >>> judge = [1, 0] * 200 + [1] * 45 + [0] * 5 + [0] * 40 + [1] * 10
    >>> gold = [np.nan] * 400 + [1] * 50 + [0] * 50
    >>> print(rogan_gladen(judge, gold))  # (0.5 + 0.8 - 1) / (0.8 + 0.9 - 1)
    0.429 (0.290 … 0.552)

    Raises:
        NotEstimableError: too few gold rows, the judge is not known to be better than chance, or no
            rate from 0 to 1 explains its verdicts.
    """
    wins, truth = np.asarray(judge, float), np.asarray(gold, float)
    index, _ = prompt_index(prompts, wins.size)
    decided = (wins == 0) | (wins == 1)
    parts = [
        decided & np.isnan(truth),
        decided & (truth == 0),
        decided & (truth == 1),
    ]
    names = ("rows without a gold label", "gold losses", "gold wins")
    for name, rows in zip(names, parts, strict=True):
        if rows.sum() < _LEAST:
            raise NotEstimableError(f"{_LEAST} {name} at least are needed, got {rows.sum()}")
    right = [wins, 1 - wins, wins]
    counted = [_counted(one[rows], index[rows]) for one, rows in zip(right, parts, strict=True)]
    (p, n), (q0, m0), (q1, m1) = counted
    _refuse_chance(q0, m0, q1, m1)
    value = min(1.0, max(0.0, (p + q0 - 1) / (q0 + q1 - 1)))
    low, high = _lang_reiczigel(p, n, q0, m0, q1, m1)
    rows = int(sum(part.sum() for part in parts))
    used = np.unique(index[parts[0] | parts[1] | parts[2]]).size
    return Estimate(value, min(low, value), max(high, value), rows, used)


def _counted(right: Floats, index: Any) -> tuple[float, float]:
    """A share, and the number of independent draws that have its variance."""
    share_of, rows = float(right.mean()), right.size
    _, own = np.unique(index, return_inverse=True)
    count = int(own.max()) + 1
    off = cluster_sums(right - share_of, own, count)
    binomial = share_of * (1 - share_of) * rows
    if count == rows or binomial == 0 or count < _LEAST:
        return share_of, float(count)
    return share_of, rows * binomial / (float(off @ off) * count / (count - 1))


def _refuse_chance(q0: float, m0: float, q1: float, m1: float) -> None:
    """Refuse a judge whose q0 + q1 - 1 is not above 0 by its interval: the rate has no bounds."""
    smooth0, smooth1 = (m0 * q0 + 1) / (m0 + 2), (m1 * q1 + 1) / (m1 + 2)
    error = np.sqrt(smooth0 * (1 - smooth0) / (m0 + 2) + smooth1 * (1 - smooth1) / (m1 + 2))
    if smooth0 + smooth1 - 1 <= critical_value(m0 + m1 - 2) * error:
        raise NotEstimableError(
            "not identified: on the gold rows the judge is not known to be better than chance "
            f"(specificity {q0:.2f} + sensitivity {q1:.2f} - 1 = {q0 + q1 - 1:.2f}, interval "
            "includes 0)"
        )


def _lang_reiczigel(
    p: float, n: float, q0: float, m0: float, q1: float, m1: float
) -> tuple[float, float]:
    z = critical_value(1e6)
    p, q0, q1 = (n * p + z**2 / 2) / (n + z**2), (m0 * q0 + 1) / (m0 + 2), (m1 * q1 + 1) / (m1 + 2)
    of_q0, of_q1 = q0 * (1 - q0) / (m0 + 2), q1 * (1 - q1) / (m1 + 2)
    gain = q0 + q1 - 1
    rate = (p + q0 - 1) / gain
    shift = 2 * z**2 * (rate * of_q1 - (1 - rate) * of_q0)
    variance = p * (1 - p) / (n + z**2) + (1 - rate) ** 2 * of_q0 + rate**2 * of_q1
    half = z * np.sqrt(variance) / gain
    return _within(float(rate + shift - half), float(rate + shift + half), (0.0, 1.0))


def _within(low: float, high: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """The part of an interval that is between ``bounds``; refused where there is none."""
    if low >= bounds[1] or high <= bounds[0]:
        raise NotEstimableError(
            f"the interval {low:.3f} … {high:.3f} is beyond {bounds[0]:g} … {bounds[1]:g}: the "
            "judge errs otherwise on the gold rows, so they are no random part of all"
        )
    return max(low, bounds[0]), min(high, bounds[1])


def prediction_powered(
    judge: npt.ArrayLike,
    gold: npt.ArrayLike,
    prompts: Prompts = None,
    power: float | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """True mean ``mean(gold) + λ (mean(judge, others) - mean(judge, gold rows))``, with ties.

    Prediction-powered inference, arXiv:2301.09633 and for judges arXiv:2601.05420: unbiased however
    the judge errs, if the gold rows are a random part of all. ``power`` is λ; the default is
    tuned for the least variance (PPI++, arXiv:2311.01453) and then clipped to 0 … 1: with a judge
    that knows nothing the estimate is the mean of the gold rows alone. Of the usual estimate λ is
    1. ``bounds`` are those of a label. Where gold and judge differ by the same everywhere, the ends
    are at least those with as many other rows as could be `unseen`.

    Raises:
        NotEstimableError: fewer than four gold rows that the judge has rated, no other rows, or an
            interval beyond the bounds.
    """
    verdicts, truth = np.asarray(judge, float), np.asarray(gold, float)
    index, count = prompt_index(prompts, verdicts.size)
    labelled = np.isfinite(verdicts) & np.isfinite(truth)
    others = np.isfinite(verdicts) & np.isnan(truth)
    if labelled.sum() < 2 * _LEAST or others.sum() < _LEAST:
        raise NotEstimableError(
            f"{2 * _LEAST} gold rows and {_LEAST} others at least are needed, "
            f"got {labelled.sum()} and {others.sum()}"
        )
    y, f, rest = truth[labelled], verdicts[labelled], verdicts[others]
    if power is None:
        power = _tuned(y, f, rest)
    value = float(y.mean() + power * (rest.mean() - f.mean()))
    influence = np.zeros(verdicts.size)
    off = y - power * f
    influence[labelled] = (off - off.mean()) / y.size
    influence[others] = power * (rest - rest.mean()) / rest.size
    golden = np.unique(index[labelled]).size
    by_prompt = cluster_sums(influence, index, count)
    error = np.sqrt(golden / (golden - 1) * float(by_prompt @ by_prompt)) if golden > 1 else 0.0
    half, other = critical_value(golden - 1) * error, unseen(golden)
    given = np.concatenate([f, rest])
    below = float(off.min()) - (bounds[0] - power * float(given.max()))
    above = bounds[1] - power * float(given.min()) - float(off.max())
    low, high = value - max(half, other * below), value + max(half, other * above)
    low, high = _within(low, high, bounds)
    kept = labelled | others
    value = float(np.clip(value, *bounds))
    return Estimate(value, low, high, int(kept.sum()), np.unique(index[kept]).size)


def _tuned(y: Floats, f: Floats, rest: Floats) -> float:
    """λ of the least variance: ``cov(y, f) / ((1 + n / N) var(f))``."""
    variance = float(np.concatenate([f, rest]).var())
    if variance == 0:
        return 0.0
    together = float(np.cov(y, f)[0, 1])
    return min(1.0, max(0.0, together / ((1 + y.size / rest.size) * variance)))


def gold_allocation(q0: float, q1: float, rate: float, rows: int) -> tuple[int, int]:
    """How many of ``rows`` gold rows should be true losses and true wins, for `rogan_gladen`.

    Least variance, as in arXiv:2511.21140: in proportion to ``(1 - rate) √(q0 (1 - q0))`` and
    ``rate √(q1 (1 - q1))``. Take the three from a first small gold set; draw further rows among
    those that the judge calls losses and wins until both numbers are reached.

    >>> gold_allocation(q0=0.7, q1=0.9, rate=0.5, rows=100)
    (60, 40)
    """
    losses = (1 - rate) * np.sqrt(q0 * (1 - q0))
    wins = rate * np.sqrt(q1 * (1 - q1))
    if losses + wins == 0:
        return rows - rows // 2, rows // 2
    of_losses = min(rows - 1, max(1, round(rows * losses / (losses + wins))))
    return of_losses, rows - of_losses
