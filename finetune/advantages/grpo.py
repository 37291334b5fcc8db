"""Group relative advantage: the reward less the group's mean, divided by the group's deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from siftune.curate.core.ranges import NonNegative
from siftune.finetune.advantages.types import Rewarded

__all__ = ["GRPO"]


@dataclass(frozen=True)
class GRPO:
    """``A_i = (R_i - mean(R)) / (std(R) + eps)`` over the G completions of a prompt, on each token.

    DeepSeekMath, Shao et al. 2024, arXiv:2402.03300, section 4.1.2 (outcome supervision). R is the
    score, less the KL where that is part of the reward. The paper leaves open which deviation; it
    is the unbiased one (divided by G - 1) here, as in TRL and verl. ``eps`` keeps the rounding
    errors of nearly equal scores small: 1e-4 as in TRL, verl has 1e-6.

    The division gives each prompt the same weight whatever its scores vary by, so prompts that are
    nearly always or never solved weigh more than in the gradient of the mean reward: the policy
    that results is not the optimum of E[r] - β KL (Dr. GRPO leaves the division out). In a group of
    two the advantage is ±1/√2 whatever the gap: the scores are but ranks, and the expected update
    climbs the share of comparisons won against the policy's own answers, not the mean score. A
    policy may so unlearn the best answer, where answers that begin as it does lose more often than
    not; it does not come back once it is sampled no more. A group of equal scores, or of one
    completion, has advantages of 0.

    Options:
        eps: Number that is added to the deviation of a group's rewards before the division.

    >>> import torch
    >>> scores, mask = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([[True]] * 3)
    >>> made = Rewarded(scores, scores.unsqueeze(1), mask, torch.tensor([0, 0, 1]))
    >>> [round(one, 4) for one in GRPO(eps=0)(made).flatten().tolist()]  # mean 2, deviation √2
    [-0.7071, 0.7071, 0.0]
    """

    eps: NonNegative = 1e-4

    needs_critic: ClassVar = False
    needs_groups: ClassVar = True

    def __call__(self, rewarded: Rewarded) -> Tensor:
        """Advantages (B, T), zero outside the mask."""
        groups, returns = rewarded.by_prompt, rewarded.returns
        gap = returns - groups.mean(returns)
        scale = groups.deviation(returns) + self.eps
        return rewarded.on_tokens((gap / scale).masked_fill(gap == 0, 0))
