"""Entropy collapse: the policy becomes certain of every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Share
from siftune.finetune.watch.evidence import Evidence, drift
from siftune.finetune.watch.history import History

__all__ = ["Entropy"]


@dataclass(frozen=True)
class Entropy:
    """The mean entropy a token falls by more than ``relative`` of that at the start.

    A policy without entropy draws one answer, so that nothing is left to learn from (DAPO,
    arXiv:2503.14476, section 3.1). Some fall is learning.

    Options:
        relative: Fall, as a share of the entropy at the start, that is allowed.
    """

    relative: Share = 0.8

    trainers: ClassVar = ("rl", "preference")
    message: ClassVar = "the entropy of the policy has collapsed"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None where it was not measured."""
        points = history.points("entropy")
        return drift(points, relative=self.relative, down=True) if points else None
