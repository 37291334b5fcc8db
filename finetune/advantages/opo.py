"""OPO's advantage: the reward less the baseline of least variance, a mean weighted by length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from siftune.finetune.advantages.types import Rewarded

__all__ = ["OPO"]


@dataclass(frozen=True)
class OPO:
    """``A_i = R_i - Σ_j l_j R_j / Σ_j l_j`` over the G completions of a prompt, on each token.

    Hao et al. 2025, "On-Policy RL with Optimal Reward Baseline", arXiv:2505.23585, equation 9: the
    baseline of least gradient variance weighs rewards by the squared norm of a completion's
    gradient, which grows with its length l (the tokens that the policy chose). The paper trains
    strictly on policy, one step a rollout, without KL or clip. With equal lengths it is Dr. GRPO's.
    A group of one completion has advantage 0.

    >>> import torch
    >>> mask = torch.tensor([[True, False, False], [True, True, True]])
    >>> rewards = torch.tensor([[4.0, 0, 0], [0, 0, 0]])
    >>> made = Rewarded(torch.tensor([4.0, 0]), rewards, mask, torch.tensor([0, 0]))
    >>> OPO()(made).tolist()  # baseline (1 · 4 + 3 · 0) / 4
    [[3.0, 0.0, 0.0], [-1.0, -1.0, -1.0]]
    """

    needs_critic: ClassVar = False
    needs_groups: ClassVar = True

    def __call__(self, rewarded: Rewarded) -> Tensor:
        """Advantages (B, T), zero outside the mask."""
        groups, returns = rewarded.by_prompt, rewarded.returns
        lengths = rewarded.mask.sum(1).double()
        # the weighted mean of the gaps to the plain mean: equal scores have gaps of exactly 0
        gap = returns - groups.mean(returns)
        baseline = groups.sum(lengths * gap) / groups.sum(lengths).clamp(min=1)
        return rewarded.on_tokens((gap - baseline).masked_fill(groups.sizes == 1, 0))
