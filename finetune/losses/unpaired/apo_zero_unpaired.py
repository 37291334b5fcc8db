"""APO-zero on single completions: KTO about the reference itself, with no estimate of a KL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss

__all__ = ["APOZeroUnpaired"]


@dataclass(frozen=True)
class APOZeroUnpaired:
    """``1 - σ(β l)`` where desirable, ``σ(β l)`` where not, ``l = log π/π_ref``.

    D'Oosterlinck et al. 2024, arXiv:2408.06266, as TRL's KTO has it under this name: for data whose
    desirable completions are better than the policy's own. It is KTO at ``z = 0``, with the same
    optimum. β 0.1.

    >>> logps = AnswerLogps.of(policy=[-6, -9], ref=[-5, -7], label=[True, False])
    >>> [round(x, 4) for x in APOZeroUnpaired(beta=1)(logps).loss.tolist()]  # σ(1), σ(-2)
    [0.7311, 0.1192]
    """

    beta: float = 0.1

    needs_reference: ClassVar = True
    needs_label: ClassVar = True

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""
        reward = self.beta * logps.answers.ratio
        loss = torch.sigmoid(torch.where(logps.good, -reward, reward))
        return AnswerLoss(loss, reward.detach())
