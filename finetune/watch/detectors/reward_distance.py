"""Answers that leave the reward model's training data behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative
from siftune.finetune.watch.evidence import Evidence, any_of, drift
from siftune.finetune.watch.history import History

__all__ = ["RewardDistance"]


@dataclass(frozen=True)
class RewardDistance:
    """The mean distance of answers from the reward model's training rows rises from its start.

    Of several reward models each is tested, and the evidence is the mean.

    Options:
        relative: Rise, as a share of the distance at the start, that is allowed.
    """

    relative: NonNegative = 0.25

    trainers: ClassVar = ("rl",)
    message: ClassVar = "answers move away from the training data of the reward model"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None where it was not measured."""
        each = [history.points(name) for name in history.names("distance")]
        found = [drift(points, relative=self.relative) for points in each]
        return any_of(*found) if found else None
