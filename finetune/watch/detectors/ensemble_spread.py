"""Reward models that part: the spread of an ensemble's scores grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative
from siftune.finetune.watch.evidence import Evidence, any_of, drift
from siftune.finetune.watch.history import History

__all__ = ["EnsembleSpread"]


@dataclass(frozen=True)
class EnsembleSpread:
    """The mean spread of the scores of an answer rises above that at the start.

    Where reward models of one data set disagree, none of them was trained on such answers (Coste et
    al., arXiv:2310.02743). Of several ensembles each is tested, and the evidence is the mean.

    Options:
        relative: Rise, as a share of the spread at the start, that is allowed.
    """

    relative: NonNegative = 0.5

    trainers: ClassVar = ("rl",)
    message: ClassVar = "the reward models of the ensemble disagree more and more"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None where it was not measured."""
        each = [history.points(name) for name in history.names("spread")]
        found = [drift(points, relative=self.relative) for points in each]
        return any_of(*found) if found else None
