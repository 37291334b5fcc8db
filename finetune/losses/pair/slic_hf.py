"""SLiC-HF: no reference; a hinge on log-probabilities, and a pull towards fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["SLiCHF"]


@dataclass(frozen=True)
class SLiCHF:
    """``max(0, δ - log π(y_w) + log π(y_l)) - λ log π(y_w)``, on summed log-probabilities.

    Zhao et al. 2023, arXiv:2305.10425. ``margin`` is δ, 1 in the paper; ``regularisation`` is λ.
    The paper's second term is over the SFT targets of the same prompts; here the chosen completion
    stands for them. No λ of the paper is known to us: 0.5 is ours. Beyond the margin only
    fine-tuning is left.

    Options:
        margin: Margin δ, in nats, by which the chosen answer has to be more probable.
        regularisation: Weight λ of the negative log-likelihood of the chosen answer.

    >>> pair = PairLogps.of(policy=(-2, -2.5))
    >>> SLiCHF(margin=1, regularisation=0.5)(pair).loss.item()  # (1 + 2 - 2.5) + 0.5·2
    1.5
    """

    margin: float = 1.0
    regularisation: float = 0.5

    needs_reference: ClassVar = False

    def __post_init__(self) -> None:
        within(self, margin="[0, inf)", regularisation="[0, inf)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.policy_chosen, logps.policy_rejected
        loss = torch.relu(self.margin - chosen + rejected) - self.regularisation * chosen
        return PairLoss(loss, chosen.detach(), rejected.detach())
