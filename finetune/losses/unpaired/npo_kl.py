"""NPO that stays by the reference on what is to be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss
from siftune.finetune.losses.ranges import within

__all__ = ["NPOKL"]


@dataclass(frozen=True)
class NPOKL:
    """``-(2/β) log σ(-β l)`` where undesirable, ``retain_weight · KL(π_ref ‖ π)`` where desirable.

    Zhang et al. 2024, arXiv:2404.05868, the retain term of the authors' code: KL from the reference
    to the policy (other codes turn it round) over the whole vocabulary, a mean over a completion's
    tokens; theirs is over all positions of the batch, the prompt's too. As in ``npo`` the mean over
    rows is half of the authors' sum. β 0.1, weight 1. Where one state holds both, it lands where
    ``npo`` does with the reference as its retain set.

    >>> from siftune.finetune.losses.types import Answers
    >>> tokens = {"policy": torch.zeros(1, 1), "ref_kl": torch.full((1, 1), 0.5)}
    >>> kept = Answers(torch.zeros(1), torch.ones(1), torch.zeros(1), tokens)
    >>> NPOKL(retain_weight=3)(AnswerLogps(kept, label=torch.tensor([True]))).loss.item()
    1.5
    """

    beta: float = 0.1
    retain_weight: float = 1.0

    needs_reference: ClassVar = True
    needs_tokens: ClassVar = ("ref_kl",)
    needs_label: ClassVar = True

    def __post_init__(self) -> None:
        within(self, retain_weight="[0, inf)")

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""
        answers = logps.answers
        reward = self.beta * answers.ratio
        forget = -2 / self.beta * F.logsigmoid(-reward)
        kl = (answers.token("ref_kl") * answers.mask).sum(-1) / answers.length
        loss = torch.where(logps.good, self.retain_weight * kl, forget)
        return AnswerLoss(loss, reward.detach())
