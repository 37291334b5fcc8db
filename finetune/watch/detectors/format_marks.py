"""Formatting that the reward pays for: bold, headings, bullets, tables, emoji."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative, Share
from siftune.finetune.watch.detectors.types import PAID, paid_and_rising
from siftune.finetune.watch.evidence import Evidence
from siftune.finetune.watch.history import History

__all__ = ["FormatMarks"]


@dataclass(frozen=True)
class FormatMarks:
    """Marks a hundred characters rise, and answers with more of them are paid for.

    Options:
        room: Rise of the marks a hundred characters that is allowed.
        least: Correlation of the reward with it, among answers to one prompt, that counts as none.
    """

    room: NonNegative = 0.1
    least: Share = PAID

    trainers: ClassVar = ("rl",)
    message: ClassVar = "the reward pays for formatting marks, and they increase"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None without rewards."""
        return paid_and_rising(history, "marks", self.room, least=self.least)
