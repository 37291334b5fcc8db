"""Generalised advantage estimation: exponentially weighted sums of temporal-difference errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Share
from siftune.finetune.advantages.types import Rewarded

__all__ = ["GAE"]


@dataclass(frozen=True)
class GAE:
    """``A_t = Σ_k (γλ)^k δ_{t+k}``, ``δ_t = r_t + γ V_{t+1} - V_t``; arXiv:1506.02438, equation 16.

    ``gamma`` discounts rewards a token. ``lam`` trades bias for variance: 0 trusts the critic (the
    advantage is δ), 1 trusts the rewards (it is the reward-to-go less V). After the last token V is
    0: an episode ends there, cut or not. ``A + V`` is what the critic learns.

    Tokens outside the mask are skipped as if they were not there: what comes after a tool's answer
    is the next step of the token before it. Nothing is discounted for them, and a reward put on
    one is not seen.

    Options:
        gamma: Discount of later rewards for each token; 1 is none.
        lam: λ: 0 trusts the value model, 1 the sampled return.

    >>> rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]])
    >>> mask, group = torch.tensor([[True, True]]), torch.tensor([0])
    >>> made = Rewarded(torch.tensor([1.0]), rewards, mask, group, values)
    >>> GAE(gamma=1, lam=0.5)(made).tolist()  # δ = 0.25 - 0.5, 1 - 0.25; -0.25 + 0.5 · 0.75
    [[0.125, 0.75]]
    """

    gamma: Share = 1.0
    lam: Share = 0.95

    needs_critic: ClassVar = True
    needs_groups: ClassVar = False

    def __call__(self, rewarded: Rewarded) -> Tensor:
        """Advantages (B, T), zero outside the mask.

        Raises:
            UsageError: there are no values.
        """
        rewards, values, mask = rewarded.rewards, rewarded.values, rewarded.mask
        if values is None:
            raise UsageError("gae needs the values of a critic")
        later_value = values.new_zeros(values.shape[0])
        later_advantage = torch.zeros_like(later_value)
        advantages = torch.zeros_like(values)
        for t in reversed(range(values.shape[1])):
            delta = rewards[:, t] + self.gamma * later_value - values[:, t]
            advantage = delta + self.gamma * self.lam * later_advantage
            chosen = mask[:, t]
            later_value = torch.where(chosen, values[:, t], later_value)
            later_advantage = torch.where(chosen, advantage, later_advantage)
            advantages[:, t] = torch.where(chosen, advantage, 0)
        return advantages
