"""KTO: gains and losses against the policy's usual drift, from single labelled completions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss, means_of
from siftune.finetune.losses.ranges import within

__all__ = ["KTO"]


@dataclass(frozen=True)
class KTO:
    """``λ_D (1 - σ(β (l - z)))`` where desirable, ``λ_U (1 - σ(β (z - l)))`` where not.

    Ethayarajh et al. 2024, arXiv:2402.01306, ``l = log π/π_ref``. z estimates the KL of
    the policy to the reference: the mean log-ratio of mismatched completions (to other prompts),
    over the whole step's batch, without gradient, clamped at 0 after the mean. A z for
    each micro-batch would be another loss. β 0.1, both weights 1; the paper wants
    ``λ_D · desirable : λ_U · undesirable`` rows between 1:1 and 4:3.

    At a fixed z the loss is linear in ``σ(β (l - z))``: the probability of a completion that is
    desirable with weight a and undesirable with b tends to 0 if ``aλ_D < bλ_U``. Those that stay
    have the same ``(aλ_D - bλ_U) σ'(β (l - z)) / π``; the loss is not convex, so which they are
    depends on where training begins.

    >>> from dataclasses import replace
    >>> from siftune.finetune.losses.types import Answers
    >>> logps = AnswerLogps.of(policy=[-6, -9], ref=[-5, -7], label=[True, False])
    >>> alone = replace(logps, mismatched=Answers(torch.ones(1), torch.ones(1), torch.zeros(1)))
    >>> [round(x, 4) for x in KTO(beta=1)(alone).loss.tolist()]  # 1 - σ(-1 - 1), 1 - σ(1 + 2)
    [0.8808, 0.0474]
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    needs_reference: ClassVar = True
    needs_mismatched: ClassVar = True
    needs_label: ClassVar = True

    def __post_init__(self) -> None:
        within(self, desirable_weight="[0, inf)", undesirable_weight="[0, inf)")

    couples_batch: ClassVar = True

    def shared(self, logps: AnswerLogps) -> Mapping[str, torch.Tensor]:
        """``kl``: the log-ratios whose mean is z."""
        return {"kl": logps.mismatched_answers.ratio}

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""
        ratio, good = logps.answers.ratio, logps.good
        z = means_of(self, logps)["kl"].clamp(min=0)
        sign = torch.where(good, 1.0, -1.0).to(ratio.dtype)
        weight = torch.where(good, self.desirable_weight, self.undesirable_weight).to(ratio.dtype)
        loss = weight * torch.sigmoid(-self.beta * sign * (ratio - z))
        return AnswerLoss(loss, self.beta * ratio.detach())
