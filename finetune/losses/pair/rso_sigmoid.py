"""RSO's sigmoid norm: the logistic loss, meant for pairs sampled by rejection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["RSOSigmoid"]


@dataclass(frozen=True)
class RSOSigmoid:
    """``-log σ(β Δ)`` on pairs of completions drawn near the optimum by rejection sampling.

    Liu et al. 2023, arXiv:2309.06657, the "sigmoid-norm" loss; ``beta`` is the paper's γ, 0.05. The
    value is DPO's at that β; what the method adds is where the pairs come from. It is not TRL's
    ``sigmoid_norm``, which divides by lengths. It lands on ``π_ref · exp(r / β)``.

    >>> round(RSOSigmoid(beta=1)(PairLogps.of(policy=(-6, -9), ref=(-5, -7))).loss.item(), 4)
    0.3133
    """

    beta: float = 0.05

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        loss = -F.logsigmoid(self.beta * (chosen - rejected))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
