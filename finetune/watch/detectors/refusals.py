"""Refusals: the share of answers that decline rises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Share
from siftune.finetune.watch.evidence import Evidence, drift
from siftune.finetune.watch.history import History

__all__ = ["Refusals"]


@dataclass(frozen=True)
class Refusals:
    """The share of answers that are refusals in English rises above that at the start.

    Options:
        room: Rise of the share of refusals that is allowed.
    """

    room: Share = 0.1

    trainers: ClassVar = ("rl",)
    message: ClassVar = "more and more answers are refusals"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None where it was not measured."""
        points = history.points("refused")
        return drift(points, self.room) if points else None
