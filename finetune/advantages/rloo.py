"""REINFORCE leave-one-out: the reward less the mean reward of the prompt's other completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from siftune.finetune.advantages.types import Rewarded

__all__ = ["RLOO"]


@dataclass(frozen=True)
class RLOO:
    """``A_i = R_i - (1 / (G - 1)) Σ_{j≠i} R_j`` over the G completions of a prompt, on each token.

    Ahmadian et al. 2024, "Back to Basics", arXiv:2402.14740, section 4.2; Kool et al. 2019. The
    baseline does not depend on the completion, so the gradient is unbiased: with the KL in the
    reward (k1) and the reduction ``fixed_length`` it is that of E[r] - β KL. The advantages of a
    group add up to 0. A completion that is alone has nothing to be compared with: 0.

    >>> import torch
    >>> scores, mask = torch.tensor([1.0, 3.0, 8.0, 5.0]), torch.tensor([[True]] * 4)
    >>> made = Rewarded(scores, scores.unsqueeze(1), mask, torch.tensor([0, 0, 0, 1]))
    >>> RLOO()(made).flatten().tolist()  # 1 - 11/2, 3 - 9/2, 8 - 4/2
    [-4.5, -1.5, 6.0, 0.0]
    """

    needs_critic: ClassVar = False
    needs_groups: ClassVar = True

    def __call__(self, rewarded: Rewarded) -> Tensor:
        """Advantages (B, T), zero outside the mask."""
        groups, returns = rewarded.by_prompt, rewarded.returns
        sizes = groups.sizes
        # R - (S - R) / (n - 1) = (R - S / n) · n / (n - 1); the gap of equal scores is exactly 0
        gap = returns - groups.mean(returns)
        return rewarded.on_tokens(gap * sizes / (sizes - 1).clamp(min=1))
