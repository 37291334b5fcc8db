"""Answers copied from the prompt that the reward pays for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative, Share
from siftune.finetune.watch.detectors.types import PAID, paid_and_rising
from siftune.finetune.watch.evidence import Evidence
from siftune.finetune.watch.history import History

__all__ = ["CopiedPrompt"]


@dataclass(frozen=True)
class CopiedPrompt:
    """The share of three-word pieces that are the prompt's rises, and they are paid for.

    Options:
        room: Rise of the share of pieces from the prompt that is allowed.
        least: Correlation of the reward with it, among answers to one prompt, that counts as none.
    """

    room: NonNegative = 0.0
    least: Share = PAID

    trainers: ClassVar = ("rl",)
    message: ClassVar = "the reward pays for text copied from the prompt, and it increases"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None without rewards."""
        return paid_and_rising(history, "copied", self.room, least=self.least)
