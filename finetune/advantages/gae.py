"""Generalised advantage estimation: exponentially weighted sums of temporal-difference errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from siftune.curate.core.ranges import Share

__all__ = ["GAE"]


@dataclass(frozen=True)
class GAE:
    """``A_t = Σ_k (γλ)^k δ_{t+k}``, ``δ_t = r_t + γ V_{t+1} - V_t``; arXiv:1506.02438, equation 16.

    ``gamma`` discounts rewards a token. ``lam`` trades bias for variance: 0 trusts the critic (the
    advantage is δ), 1 trusts the rewards (it is the reward-to-go less V). After the last token V is
    0: an episode ends there, cut or not.

    Tokens outside ``mask`` are skipped as if they were not there: what comes after a tool's answer
    is the next step of the token before it. Nothing is discounted for them, and a reward put on
    one is not seen.
    """

    gamma: Share = 1.0
    lam: Share = 0.95

    def __call__(self, rewards: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Advantages (B, T), zero outside ``mask``; ``A + V`` is what the critic should learn."""
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
