"""Updates that are mostly clipped: the policy moves too far in a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Share
from siftune.finetune.watch.evidence import Evidence, drift
from siftune.finetune.watch.history import History

__all__ = ["ClipShare"]


@dataclass(frozen=True)
class ClipShare:
    """The share of tokens whose probability ratio is clipped rises above that at the start.

    Options:
        room: Rise of the share of clipped tokens that is allowed.
    """

    room: Share = 0.3

    trainers: ClassVar = ("rl",)
    message: ClassVar = "most of an update is clipped: the step is too large"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None where it was not measured."""
        points = history.points("clip_share")
        return drift(points, self.room) if points else None
