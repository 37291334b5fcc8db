"""The same answer to different prompts: a constant that the reward scores high."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative, Share
from siftune.finetune.watch.detectors.types import PAID, paid_and_rising
from siftune.finetune.watch.evidence import Evidence
from siftune.finetune.watch.history import History

__all__ = ["SameAnswer"]


@dataclass(frozen=True)
class SameAnswer:
    """The share of answers that were given to another prompt too rises, and they are paid for.

    A reward model that was trained on good answers only has no reason to score junk low.

    Options:
        room: Rise of the share of such answers that is allowed.
        least: Correlation of the reward with it, among answers to one prompt, that counts as none.
    """

    room: NonNegative = 0.0
    least: Share = PAID

    trainers: ClassVar = ("rl",)
    message: ClassVar = "the reward pays for one answer to different prompts, and it spreads"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None without rewards."""
        return paid_and_rising(history, "same_answer", self.room, least=self.least)
