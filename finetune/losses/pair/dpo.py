"""Direct Preference Optimization: a classifier of pairs whose logit is the implicit reward gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["DPO"]


@dataclass(frozen=True)
class DPO:
    """``-log σ(β Δ)``, Δ the gap of the two log-ratios to the reference.

    Rafailov et al. 2023, arXiv:2305.18290, equation 7. ``beta`` is the price of a nat of KL to the
    reference; 0.1 as in the paper. At the reference the loss is ln 2. With Bradley–Terry labels the
    optimum is ``π* ∝ π_ref · exp(r / β)``.

    >>> round(DPO(beta=1)(PairLogps.of(policy=(-6, -9), ref=(-5, -7))).loss.item(), 4)  # -log σ(1)
    0.3133
    """

    beta: float = 0.1

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen = logps.policy_chosen - logps.ref_chosen
        rejected = logps.policy_rejected - logps.ref_rejected
        loss = -F.logsigmoid(self.beta * (chosen - rejected))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
