"""REINFORCE++: the reward-to-go of each token, whitened over all tokens of the rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from siftune.curate.core.ranges import Share
from siftune.finetune.advantages.types import Rewarded
from siftune.finetune.core.masked import whiten

__all__ = ["ReinforcePP"]


@dataclass(frozen=True)
class ReinforcePP:
    """``G_t = Σ_{k≥t} γ^{k-t} r_k``; ``A_t = (G_t - mean(G)) / std(G)`` over the rollout's tokens.

    Hu et al. 2025, REINFORCE++, arXiv:2501.03262, section 3: no critic, and a baseline over the
    whole rollout in place of one a prompt, so a single completion of each prompt is enough. The KL
    is meant to be in the reward (k1): then ``G_t`` is the score less the KL from t on. The variance
    is the unbiased one, of all tokens that count, padding left out; a long answer has as many
    entries in the mean as tokens. Tokens outside the mask are skipped and not discounted for.

    Options:
        gamma: Discount of later rewards for each token; 1 is none.

    >>> rewards = torch.tensor([[0.0, 2.0], [0.0, 9.0]])
    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> made = Rewarded(torch.tensor([2.0, 0]), rewards, mask, torch.tensor([0, 1]))
    >>> [round(one, 3) for one in ReinforcePP(gamma=0.5)(made).flatten().tolist()]  # G: 1, 2; 0
    [0.0, 1.0, -1.0, 0.0]
    """

    gamma: Share = 1.0

    needs_critic: ClassVar = False
    needs_groups: ClassVar = False

    def __call__(self, rewarded: Rewarded) -> Tensor:
        """Advantages (B, T), zero outside the mask."""
        rewards, mask = rewarded.rewards, rewarded.mask
        to_go, later = torch.zeros_like(rewards), rewards.new_zeros(len(rewards))
        for t in reversed(range(rewards.shape[1])):
            later = torch.where(mask[:, t], rewards[:, t] + self.gamma * later, later)
            to_go[:, t] = later
        return whiten(to_go, mask)
