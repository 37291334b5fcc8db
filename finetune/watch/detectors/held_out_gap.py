"""Overfitting: the loss on rows that are trained on falls while that on held-out rows rises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative
from siftune.finetune.watch.evidence import Evidence, e_process, errors_of, z_of
from siftune.finetune.watch.history import History

__all__ = ["HeldOutGap"]


@dataclass(frozen=True)
class HeldOutGap:
    """The held-out loss has risen above its lowest value by more than ``relative`` of it.

    The lowest value is that of the measurements before.

    Options:
        relative: Rise of the held-out loss above its lowest value, as a share of its
            size, that is allowed.
    """

    relative: NonNegative = 0.05

    trainers: ClassVar = ("sft", "preference", "reward")
    message: ClassVar = "the held-out loss rises: the training overfits"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None without held-out rows."""
        points = history.points("held_out/loss")
        if not points:
            return None
        z: list[float | None] = [None]
        for at, error in enumerate(errors_of(points)[1:], start=1):
            lowest = min(point.mean for point in points[:at])
            above = points[at].mean - (lowest + self.relative * abs(lowest))
            z.append(None if error is None else z_of(above / error, points[at].count))
        log_e, since = e_process(z)
        steps = [point.step for point in points]
        return Evidence(steps, log_e, [steps[at] for at in since])
