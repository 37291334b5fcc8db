"""One reward that rises at the cost of another, where several are added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.finetune.watch.evidence import Evidence, all_of, any_of, drift, lag
from siftune.finetune.watch.history import History

__all__ = ["Rewards"]


@dataclass(frozen=True)
class Rewards:
    """The total reward is above its start while one of its parts falls from what it was lately.

    Each part is tested, and the evidence is the mean of theirs, so that many parts raise no more
    false alarms than one.
    """

    trainers: ClassVar = ("rl",)
    message: ClassVar = "the total reward rises while one of the rewards falls"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None with fewer than two rewards."""
        total, parts = history.points("score"), history.names("reward/")
        if not total or len(parts) < 2:
            return None
        falls = [lag(history.points(name), history.points(name), 0.0) for name in parts]
        return all_of(drift(total), any_of(*falls))
