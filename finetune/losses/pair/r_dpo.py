"""Length-regularised DPO: a longer chosen completion has to win by more than its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["RDPO"]


@dataclass(frozen=True)
class RDPO:
    """``-log σ(β Δ + α (|y_w| - |y_l|))``: DPO of the reward less α for each token.

    Park et al. 2024, arXiv:2403.19159. Maximising ``r - α |y|`` under a KL gives ``β log π/π_ref =
    r - α |y|`` up to a constant, so the length enters the logit with a plus; the other sign, seen
    in ports, rewards length. It lands on ``π_ref · exp((r - α |y|) / β)``. ``alpha`` is in reward
    per token; that 0.01 is within the paper's range is assumed. α = 0 is DPO.

    Options:
        alpha: Price of a token of length, in units of the reward; 0 is DPO.

    >>> pair = PairLogps.of(policy=(-6, -9), ref=(-5, -7), length=(5, 3))
    >>> round(RDPO(beta=1, alpha=0.5)(pair).loss.item(), 4)  # -log σ(1 + 0.5·2)
    0.1269
    """

    beta: float = 0.1
    alpha: float = 0.01

    needs_reference: ClassVar = True

    def __post_init__(self) -> None:
        within(self, alpha="[0, inf)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        longer = logps.chosen.length - logps.rejected.length
        loss = -F.logsigmoid(self.beta * (chosen - rejected) + self.alpha * longer)
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
