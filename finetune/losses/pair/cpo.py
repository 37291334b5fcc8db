"""CPO: no reference; DPO against a uniform one, and fine-tuning on chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["CPO"]


@dataclass(frozen=True)
class CPO:
    """``-log σ(β (log π(y_w) - log π(y_l))) - α log π(y_w) / |y_w|``.

    Xu et al. 2024, arXiv:2401.08417, equation 3: DPO whose reference is taken as uniform, plus the
    NLL of the chosen completion, β 0.1. ``sft_weight`` is α, 1 in the paper and TRL; the NLL is the
    mean over a completion's tokens (TRL takes in the prompt too). α = 0 on completions of one token
    lands on ``exp(r / β)``; with it there is no closed form.

    Options:
        beta: Scale of the gap of the two log-probabilities, β: a larger one makes the loss steeper.

    >>> pair = PairLogps.of(policy=(-2, -3), length=(2, 2))
    >>> round(CPO(beta=1)(pair).loss.item(), 4)  # -log σ(1) + 2/2
    1.3133
    """

    beta: float = 0.1
    sft_weight: float = 1.0

    needs_reference: ClassVar = False

    def __post_init__(self) -> None:
        within(self, sft_weight="[0, inf)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.policy_chosen, logps.policy_rejected
        prefer = -F.logsigmoid(self.beta * (chosen - rejected))
        loss = prefer - self.sft_weight * logps.chosen.mean
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
