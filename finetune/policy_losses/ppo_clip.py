"""PPO's clipped surrogate: what a ratio gains beyond a range around 1 is not rewarded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from siftune.curate.core.ranges import Positive
from siftune.finetune.core.types import DualClip
from siftune.finetune.policy_losses.types import PolicyBatch

__all__ = ["PPOClip"]


@dataclass(frozen=True)
class PPOClip:
    """``max(-A ρ, -A clip(ρ, 1 ± cliprange))`` with ``ρ = π/π_old``, one value a token.

    Schulman et al. 2017, arXiv:1707.06347, equation 7. The larger loss counts: a token with A > 0
    has no gradient once ρ is above the range, one with A < 0 once it is below; where the policy
    moved the wrong way the gradient stays. ``dual_clip`` (above 1, 3 in the paper) also bounds what
    one bad token can cost once ρ is large: where A < 0 the loss is at most ``-A · dual_clip`` (Ye
    et al. 2020, arXiv:1912.09729, equation 5). ``cliprange`` 0.2 is PPO's and GRPO's.

    Options:
        cliprange: Largest change of a token's probability ratio from 1 that the policy loss
            rewards.
        dual_clip: Bound, above 1, of the loss of tokens with a negative advantage; none leaves it
            open.

    >>> ratio, advantage = torch.tensor([[1.5, 5.0]]), torch.tensor([[1.0, -1.0]])
    >>> batch = PolicyBatch(ratio.log(), torch.zeros(1, 2), advantage, torch.tensor([[True] * 2]))
    >>> PPOClip()(batch).tolist()
    [[-1.2000000476837158, 5.0]]
    >>> PPOClip(dual_clip=3)(batch).tolist()
    [[-1.2000000476837158, 3.0]]
    """

    cliprange: Positive = 0.2
    dual_clip: DualClip | None = None

    def __call__(self, batch: PolicyBatch) -> Tensor:
        """Loss of each token."""
        ratio, advantages = batch.ratios, batch.advantages
        clipped = ratio.clamp(1 - self.cliprange, 1 + self.cliprange)
        loss = torch.maximum(-advantages * ratio, -advantages * clipped)
        if self.dual_clip is None:
            return loss
        return torch.where(advantages < 0, torch.minimum(loss, -advantages * self.dual_clip), loss)

    def clipped(self, batch: PolicyBatch) -> Tensor:
        """The tokens whose ratio is outside of the range."""
        return (batch.ratios - 1).abs() > self.cliprange
