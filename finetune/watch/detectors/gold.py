"""Reward that a gold score does not follow: the proxy rises while gold stalls or falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Share
from siftune.finetune.watch.evidence import Evidence, any_of, lag
from siftune.finetune.watch.history import History

__all__ = ["Gold"]


@dataclass(frozen=True)
class Gold:
    """The score that is trained on gains, a score that is not gains less than ``share`` of it.

    Over-optimisation of a proxy (Gao, Schulman, Hilton, arXiv:2210.10760, figure 1), measured in
    standard deviations of an answer. The gold score is a judge's, another reward model's, or of a
    checker: of the answers to held-out prompts, of those that are trained on, or of both, where the
    evidence is the mean.

    Options:
        share: Part of the reward's gain that the gold score has to gain too.
    """

    share: Share = 0.2

    trainers: ClassVar = ("rl",)
    message: ClassVar = "the reward gains, and the gold score does not follow it"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None without a gold score."""
        found = []
        for place in ("held_out/", ""):
            score, gold = (history.points(f"{place}{name}") for name in ("score", "gold"))
            if score and gold:
                found.append(lag(score, gold, self.share))
        return any_of(*found) if found else None
