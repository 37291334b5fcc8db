"""Reward-aware preference optimisation: match the gap of rewards, not only its sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["RPORewardAware"]


@dataclass(frozen=True)
class RPORewardAware:
    """A distance between z = β Δ and d = η (r_w - r_l), the gap of the rows' scores.

    Adler et al. 2024 (Nemotron-4), arXiv:2406.11704, section 3.3.2; one of three methods called
    RPO. With p = σ(z) and q = σ(d), ``distance`` is ``backward`` KL(q ‖ p), ``forward`` KL(p ‖ q)
    (NeMo-Aligner's names, whose loss is "bwd"), or ``squared`` (z - d)². All are 0 at z = d and
    land on ``π_ref · exp(η r / β)``; ``forward`` is not convex and loses its gradient for large
    |z|. As d grows without end ``backward`` is DPO. ``eta`` is η, the scale of the scores. The
    paper weights a fine-tuning term besides: give it as a second loss. β 0.1 and η 1 are ours.

    Options:
        eta: Factor η that the gap of the scores is multiplied by.

    >>> pair = PairLogps.of(policy=(-6, -9), ref=(-5, -7), score_chosen=3, score_rejected=1)
    >>> RPORewardAware(distance="squared", beta=1)(pair).loss.item()  # (1 - 2)²
    1.0
    """

    distance: Literal["backward", "forward", "squared"] = "backward"
    beta: float = 0.1
    eta: float = 1.0

    needs_reference: ClassVar = True
    needs_columns: ClassVar = ("score_chosen", "score_rejected")

    def __post_init__(self) -> None:
        within(self, eta="(0, inf)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        target = self.eta * (logps.column("score_chosen") - logps.column("score_rejected"))
        loss = self._distance(self.beta * (chosen - rejected), target)
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())

    def _distance(self, logit: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if self.distance == "squared":
            return (logit - target) ** 2
        if self.distance == "backward":
            return _kl(target, logit)
        return _kl(logit, target)


def _kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """KL from the coin of logit ``first`` to the coin of logit ``second``."""
    win = torch.sigmoid(first) * (F.logsigmoid(first) - F.logsigmoid(second))
    lose = torch.sigmoid(-first) * (F.logsigmoid(-first) - F.logsigmoid(-second))
    return win + lose
