"""RSO's hinge norm: SLiC's hinge on log-ratios to the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["RSOHinge"]


@dataclass(frozen=True)
class RSOHinge:
    """``max(0, 1 - β Δ)`` on pairs of completions drawn near the optimum by rejection sampling.

    Liu et al. 2023, arXiv:2309.06657, the "hinge-norm" loss; ``beta`` is the paper's γ, 0.05. TRL's
    ``hinge`` is this. Beyond a margin of 1/β there is no gradient. Its optimum is that of a linear
    programme, not ``π_ref · exp(r / β)``: gaps are driven to ±1/β by the majority's sign.

    >>> RSOHinge(beta=0.25)(PairLogps.of(policy=(-6, -9), ref=(-5, -7))).loss.item()  # 1 - 0.25
    0.75
    """

    beta: float = 0.05

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        loss = torch.relu(1 - self.beta * (chosen - rejected))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
