"""KL that jumps: the policy leaves the reference faster than before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from siftune.curate.core.ranges import NonNegative
from siftune.finetune.watch.evidence import Evidence, e_process
from siftune.finetune.watch.history import History, Point

__all__ = ["KLRate"]

_BEFORE: Final = 20  # increments that the rate is the median of
_APART: Final = 5  # of the newest, which the jump may have reached
_LEAST: Final = 5


@dataclass(frozen=True)
class KLRate:
    """The KL to the reference grows by more a step than ``factor`` times its median growth before.

    A learning rate that is too high, or a reward that has found a hole, shows as a jump of the KL.
    A KL that is merely large is what ``kl_stop`` and ``max_kl`` end a run for. Increments are
    measured against the standard errors of both means, or against the spread of those before.

    Options:
        factor: Growth of the KL a step, in times the median growth of the steps before, that is
            allowed.
    """

    factor: NonNegative = 3.0

    trainers: ClassVar = ("rl", "preference")
    message: ClassVar = "the KL to the reference grows much faster than before"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None without a KL."""
        points = history.points("kl")
        if not points:
            return None
        growth = np.diff([point.mean for point in points])
        z = [None, *(self._z(points, growth, at) for at in range(len(growth)))]
        log_e, since = e_process(z)
        steps = [point.step for point in points]
        return Evidence(steps, log_e, [steps[at] for at in since])

    def _z(self, points: Sequence[Point], growth: np.ndarray, at: int) -> float | None:
        before = growth[max(0, at - _APART - _BEFORE) : max(0, at - _APART)]
        if len(before) < _LEAST:
            return None
        rate = float(np.median(before))
        spread = 1.4826 * float(np.median(np.abs(before - rate)))
        known = [point.error for point in points[at : at + 2] if point.error is not None]
        error = max(float(np.sqrt(np.sum(np.square(known)))), spread, 1e-6)
        return (float(growth[at]) - self.factor * max(rate, 0.0)) / error
