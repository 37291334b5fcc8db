"""Answers that leave the reward model's training data behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative, Share
from siftune.finetune.watch.detectors.types import PAID, fact_rises
from siftune.finetune.watch.evidence import Evidence
from siftune.finetune.watch.history import History

__all__ = ["RewardDistance"]


@dataclass(frozen=True)
class RewardDistance:
    """Answers are farther from the reward model's training rows: in the mean, or where it pays.

    The share of answers at a distance far above nearly all at the start (`Observer`) shows a hack
    while it is rare, among answers that the reward pays for. Of several reward models each is
    tested, and the evidence is the mean.

    Options:
        relative: Rise, as a share of the distance at the start, that is allowed.
        least: Correlation of the reward with a large distance, among answers to one prompt, that
            counts as none.
    """

    relative: NonNegative = 0.25
    least: Share = PAID

    trainers: ClassVar = ("rl",)
    message: ClassVar = "answers move away from the training data of the reward model"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None where it was not measured."""
        return fact_rises(history, "distance", self.relative, self.least)
