"""Reward models that part: the spread of an ensemble's scores grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative, Share
from siftune.finetune.watch.detectors.types import PAID, fact_rises
from siftune.finetune.watch.evidence import Evidence
from siftune.finetune.watch.history import History

__all__ = ["EnsembleSpread"]


@dataclass(frozen=True)
class EnsembleSpread:
    """Scores of an answer spread more than at the start: in the mean, or where that is paid for.

    Where reward models of one data set disagree, none of them was trained on such answers (Coste et
    al., arXiv:2310.02743). The share of answers with a spread far above nearly all at the start
    (`Observer`) shows a hack while it is rare, among answers that the reward pays for. Of several
    ensembles each is tested, and the evidence is the mean.

    Options:
        relative: Rise, as a share of the spread at the start, that is allowed.
        least: Correlation of the reward with a wide spread, among answers to one prompt, that
            counts as none.
    """

    relative: NonNegative = 0.5
    least: Share = PAID

    trainers: ClassVar = ("rl",)
    message: ClassVar = "the reward models of the ensemble disagree more and more"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None where it was not measured."""
        return fact_rises(history, "spread", self.relative, self.least)
