"""Answers that no longer end: the share that is cut at the most tokens rises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Share
from siftune.finetune.watch.evidence import Evidence, drift
from siftune.finetune.watch.history import History

__all__ = ["CutAnswers"]


@dataclass(frozen=True)
class CutAnswers:
    """The share of answers without an end token rises above that at the start.

    Options:
        room: Rise of the share of cut answers that is allowed.
    """

    room: Share = 0.2

    trainers: ClassVar = ("rl",)
    message: ClassVar = "more and more answers are cut before they end"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None where it was not measured."""
        points = history.points("cut")
        return drift(points, self.room) if points else None
