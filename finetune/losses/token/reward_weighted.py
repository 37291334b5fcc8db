"""Reward-weighted regression: fine-tuning with rows weighted by exp(reward / β)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss
from siftune.finetune.losses.ranges import within

__all__ = ["RewardWeighted"]


@dataclass(frozen=True)
class RewardWeighted:
    """``-exp(r / β) log π(y)``, r the row's ``reward`` and the weight at most ``max_weight``.

    Peters & Schaal 2007; with the reward less a baseline it is AWR's policy step, Peng et al. 2019,
    arXiv:1910.00177, and AWAC's. The ceiling 20 is that of AWR's code (``weight_clip`` of
    xbpeng/awr), there on normalised advantages. Sums over tokens. The optimum is the law of the
    completions times ``exp(r / β)``: for completions of the reference that is ``π* ∝ π_ref · exp(r
    / β)``, where no weight is cut at the ceiling.

    Options:
        beta: Temperature β of the weights exp(reward / β): a smaller one favours high rewards more.

    >>> logps = AnswerLogps.of(policy=[-2, -2], length=1, reward=[0, 100])
    >>> RewardWeighted()(logps).loss.tolist()
    [2.0, 40.0]
    """

    beta: float = 1.0
    max_weight: float = 20.0

    needs_reference: ClassVar = False
    needs_columns: ClassVar = ("reward",)

    def __post_init__(self) -> None:
        within(self, max_weight="(0, inf)")

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""
        weight = torch.exp(logps.column("reward") / self.beta).clamp(max=self.max_weight)
        return AnswerLoss(-weight * logps.answers.policy, logps.answers.mean.detach())
