"""Robust DPO: an unbiased estimate of the DPO loss from labels flipped at a known rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["RobustDPO"]


@dataclass(frozen=True)
class RobustDPO:
    """``[-(1 - ε) log σ(β Δ) + ε log σ(-β Δ)] / (1 - 2ε)``.

    Chowdhury et al. 2024, arXiv:2403.00409, equation 12. ``label_smoothing`` is ε, the share of
    flipped labels, 0.1 as the paper recommends according to TRL. In expectation over labels
    flipped at ε it is the DPO loss of the clean labels, so it has DPO's optimum; of a single
    pair it can be negative and has no minimum. ε = 0 is DPO.

    >>> pair = PairLogps.of(policy=(-6, -9), ref=(-5, -7))
    >>> loss = RobustDPO(beta=1, label_smoothing=0.25)(pair).loss
    >>> round(loss.item(), 4)  # (0.75·0.3133 - 0.25·1.3133) / 0.5
    -0.1867
    """

    beta: float = 0.1
    label_smoothing: float = 0.1

    needs_reference: ClassVar = True

    def __post_init__(self) -> None:
        within(self, label_smoothing="[0, 0.5)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen = logps.policy_chosen - logps.ref_chosen
        rejected = logps.policy_rejected - logps.ref_rejected
        logit = self.beta * (chosen - rejected)
        right, flipped = -F.logsigmoid(logit), -F.logsigmoid(-logit)
        flip = self.label_smoothing
        loss = ((1 - flip) * right - flip * flipped) / (1 - 2 * flip)
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
