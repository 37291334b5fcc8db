"""Sequential tests with a stated false alarm rate: e-processes over the steps of a run.

A detector turns each step into a number z that has mean at most 0 and variance at most 1, given
the steps before, as long as nothing is wrong. Then ``exp(λz - λ²/2)`` has mean at most 1, and so
has a product of such factors over steps (a test supermartingale; Howard, Ramdas, McAuliffe, Sekhon
2021, arXiv:1810.08240, for sub-Gaussian z). A change may begin at any step: products that begin at
step j = 1, 2, 3, … are averaged with weights ``j^(-1/4) - (j+1)^(-1/4)``, which sum to 1, and so
are several λ. An average of e-processes is one: by Ville's inequality the probability that it
*ever* reaches 1/α in a run without a change is at most α, however long the run is and however often
it is looked at. (For restarted e-processes see Shin, Ramdas, Rinaldo 2023, "E-detectors",
arXiv:2203.03532; where each start has a weight fixed before, as here, the bound is on the whole run
and not on the mean time to a false alarm, which is what CUSUM bounds.)

The bound is as good as z: means of few answers get their z by way of Student's t, and z is cut at
`MOST`, which only lowers the evidence and keeps a single step from raising an alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from siftune.finetune.watch.history import Point

__all__ = [
    "MOST",
    "Evidence",
    "all_of",
    "any_of",
    "drift",
    "e_process",
    "errors_of",
    "lag",
    "level",
    "z_of",
]

Floats = npt.NDArray[np.float64]

MOST: Final = 3.0
"""Largest z that counts: with it one step multiplies the evidence by at most e⁴."""

_LEFT: Final = -0.25  # power of j that is the weight of the starts from j on
_BETS: Final = np.array([0.25, 0.5, 1.0, 2.0])  # λ: changes of this many standard errors a step
_BASE: Final = 10  # most points that the start of a series is the mean of
_WINDOWS: Final = (5, 15)  # points that a recent gain is measured from
_DIFFERENCES: Final = 5  # before a series without standard errors can be tested


@dataclass(frozen=True)
class Evidence:
    """Of each step the natural logarithm of the evidence, and the step at which it began to rise.

    ``steps``, ``log_e`` and ``since`` are of one length. ``log_e`` is at most log(1/α) in a run
    without a change, but with probability α.
    """

    steps: Sequence[int]
    log_e: Floats
    since: Sequence[int]

    def first(self, limit: float) -> int | None:
        """Index of the first step with evidence of at least ``limit``; None if there is none."""
        at = np.flatnonzero(self.log_e >= limit)
        return int(at[0]) if len(at) else None


def e_process(z: Sequence[float | None]) -> tuple[Floats, list[int]]:
    """Log evidence after each z, and the index at which the strongest product began.

    None (nothing could be measured at a step) leaves the evidence as it is.

    >>> log_e, since = e_process([0, 0, 3, 3, 3])
    >>> [round(float(one), 1) for one in log_e], since[-1]
    ([-0.1, -0.1, 0.9, 4.1, 7.9], 2)
    """
    if not len(z):
        return np.zeros(0), []
    count = len(z)
    cut = np.array([np.nan if one is None else min(one, MOST) for one in z], float)[:, None]
    bets = np.where(np.isnan(cut), 0.0, _BETS * cut - _BETS**2 / 2)
    summed = np.cumsum(bets, axis=0)
    before = summed - bets  # the sum up to the start of a product that begins here
    starts = np.arange(1.0, count + 1)[:, None]
    weights = np.log(starts**_LEFT - (starts + 1) ** _LEFT)
    log_products = summed + np.logaddexp.accumulate(weights - before, axis=0)
    unspent = _LEFT * np.log(starts[:, 0] + 1)  # the weight of the starts to come
    mean = np.logaddexp.reduce(log_products, axis=1) - np.log(len(_BETS))
    lowest = np.minimum.accumulate(before, axis=0)
    began = np.maximum.accumulate(np.where(before <= lowest, np.arange(count)[:, None], 0), axis=0)
    strongest = log_products.argmax(axis=1)
    return np.logaddexp(mean, unspent), began[np.arange(count), strongest].tolist()


def level(alpha: float, tests: int) -> float:
    """The log evidence at which one of ``tests`` tests raises an alarm (Bonferroni).

    >>> round(level(0.05, 10), 2)
    5.3
    """
    return float(np.log(tests / alpha))


def all_of(*parts: Evidence) -> Evidence:
    """Evidence that all of several things are so: the least (each must be, so the least bounds)."""
    steps = sorted({step for part in parts for step in part.steps})
    lined = [_on(part, steps) for part in parts]
    least = np.min([log_e for log_e, _ in lined], axis=0) if steps else np.zeros(0)
    since = [max(begun) for begun in zip(*(begun for _, begun in lined), strict=True)]
    return Evidence(steps, least, since)


def any_of(*parts: Evidence) -> Evidence:
    """Evidence that one of several things is so: the mean of e-processes is an e-process."""
    steps = sorted({step for part in parts for step in part.steps})
    lined = [_on(part, steps) for part in parts]
    if not steps:
        return Evidence([], np.zeros(0), [])
    each = np.array([log_e for log_e, _ in lined])
    mean = np.logaddexp.reduce(each, axis=0) - np.log(len(parts))
    strongest = each.argmax(axis=0)
    return Evidence(steps, mean, [lined[one][1][at] for at, one in enumerate(strongest)])


def _on(part: Evidence, steps: Sequence[int]) -> tuple[Floats, list[int]]:
    """Evidence at other steps: that of the last own one; none (log 1) before the first."""
    at = np.searchsorted(np.asarray(part.steps, dtype=int), steps, side="right") - 1
    log_e = np.where(at >= 0, part.log_e[at], 0.0) if len(part.steps) else np.zeros(len(steps))
    since = [part.since[one] if one >= 0 else steps[0] for one in at]
    return log_e, since


def drift(
    points: Sequence[Point],
    room: float = 0.0,
    relative: float = 0.0,
    down: bool = False,
    start: float | None = None,
) -> Evidence:
    """Evidence that a mean has left its start by more than ``room + relative × |start|``.

    The start is the mean of the first points (a third of those before, at most 10), plus two of
    its standard errors, because it is measured too; unless it is known, as ``start``. ``down``
    tests for a fall.
    """
    sign = -1.0 if down else 1.0
    starts = [(start, 0.0)] * len(points) if start is not None else _starts(points)
    z: list[float | None] = []
    for at, (point, error) in enumerate(zip(points, errors_of(points), strict=True)):
        if error is None or (start is None and at == 0):
            z.append(None)
            continue
        limit = sign * starts[at][0] + room + relative * abs(starts[at][0]) + starts[at][1]
        z.append(z_of((sign * point.mean - limit) / error, point.count))
    steps = [point.step for point in points]
    log_e, since = e_process(z)
    return Evidence(steps, log_e, [steps[at] for at in since])


def _starts(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Of each point the mean of the start, and two of its standard errors (0 where not known)."""
    means = np.cumsum([point.mean for point in points[:_BASE]])
    squares = np.cumsum([(point.error or 0.0) ** 2 for point in points[:_BASE]])
    counts = [min(max(at // 3, 1), _BASE) for at in range(len(points))]
    known = [
        (float(m) / n, 2 * float(np.sqrt(s)) / n)
        for n, m, s in zip(range(1, _BASE + 1), means, squares, strict=False)
    ]
    return [known[count - 1] for count in counts]


def lag(leader: Sequence[Point], follower: Sequence[Point], share: float) -> Evidence:
    """Evidence that ``follower`` gains less than ``share`` of what ``leader`` does, or falls.

    Gains are in standard deviations of an answer at the start, over the mean of points some 5 (or
    some 15) steps back: what was lost lately is not made up for by what was gained long ago. A fall
    of the leader asks nothing of the follower. ``share`` 0 tests for a fall alone.
    """
    other = {point.step: point for point in leader}
    pairs = [(other[point.step], point) for point in follower if point.step in other]
    return any_of(*(_lag(pairs, share, window) for window in _WINDOWS))


def _lag(pairs: Sequence[tuple[Point, Point]], share: float, window: int) -> Evidence:
    steps = [own.step for _, own in pairs]
    units = [_unit([pair[side] for pair in pairs]) for side in (0, 1)]
    gains = [_gains([pair[side].mean for pair in pairs], window) for side in (0, 1)]
    z: list[float | None] = []
    for at, both in enumerate(pairs):
        errors = [(both[side].error or 0.0) / units[side] for side in (0, 1)]
        error = float(np.hypot(share * errors[0], errors[1])) * np.sqrt(1 + 1 / window)
        gain = [one[at] for one in gains]
        if gain[0] is None or gain[1] is None or not error:
            z.append(None)
            continue
        wanted = share * max(gain[0], 0.0) / units[0]
        z.append(z_of((wanted - gain[1] / units[1]) / error, both[1].count))
    log_e, since = e_process(z)
    return Evidence(steps, log_e, [steps[at] for at in since])


def _unit(points: Sequence[Point]) -> float:
    """Standard deviation of an answer at the start; 1 where it is not known."""
    known = [one.error * float(np.sqrt(one.count)) for one in points[:_BASE] if one.error]
    return float(np.mean(known)) if known else 1.0


def _gains(means: Sequence[float], window: int) -> list[float | None]:
    """Each mean less that of ``window`` points which end ``window // 2`` points before it."""
    apart = max(window // 2, 1)
    return [
        None
        if at < window + apart
        else one - float(np.mean(means[at - window - apart : at - apart]))
        for at, one in enumerate(means)
    ]


def errors_of(points: Sequence[Point]) -> list[float | None]:
    """Standard errors; of points without one, from the differences of the points before it.

    Shares of 0 and 1, and means of equal numbers, have the error of half an answer.
    """
    found: list[float | None] = []
    means = np.array([point.mean for point in points])
    for at, point in enumerate(points):
        if point.error is not None:
            found.append(max(point.error, 0.5 * max(abs(point.mean), 1e-9) / max(point.count, 1)))
            continue
        differences = np.abs(np.diff(means[:at]))
        spread = 1.4826 * float(np.median(differences)) / np.sqrt(2) if at > _DIFFERENCES else 0.0
        found.append(spread or None)
    return found


def z_of(t: float, count: int) -> float:
    """Student's t of a mean of ``count`` values as a normal z of the same tail (Wallace 1959).

    >>> round(z_of(3.0, 8), 2), round(z_of(3.0, 10_000), 2), z_of(1.0, 1)
    (2.32, 3.0, 1.0)
    """
    df = count - 1
    if df < 1:  # a single number, or one whose error is not that of a mean
        return float(t)
    size = (8 * df + 1) / (8 * df + 3) * np.sqrt(df * np.log1p(t * t / df))
    return float(np.copysign(size, t))
