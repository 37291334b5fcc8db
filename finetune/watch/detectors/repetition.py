"""Text repeated within an answer that the reward pays for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative, Share
from siftune.finetune.watch.detectors.types import PAID, paid_and_rising
from siftune.finetune.watch.evidence import Evidence
from siftune.finetune.watch.history import History

__all__ = ["Repetition"]


@dataclass(frozen=True)
class Repetition:
    """Pieces of three words that occurred before in the same answer increase and are paid for.

    Options:
        room: Rise of the share of repeated pieces that is allowed.
        least: Correlation of the reward with it, among answers to one prompt, that counts as none.
    """

    room: NonNegative = 0.0
    least: Share = PAID

    trainers: ClassVar = ("rl",)
    message: ClassVar = "the reward pays for repetition, and it increases"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None without rewards."""
        return paid_and_rising(history, "repetition", self.room, least=self.least)
