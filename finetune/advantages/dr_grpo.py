"""Dr. GRPO's advantage: the reward less the mean of its group, not divided by anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from siftune.finetune.advantages.types import Rewarded

__all__ = ["DrGRPO"]


@dataclass(frozen=True)
class DrGRPO:
    """``A_i = R_i - mean(R)`` over the G completions of a prompt, on each token.

    Liu et al. 2025, "Understanding R1-Zero-Like Training", arXiv:2503.20783, section 3.2: GRPO
    without its two biases. Dividing by the group's deviation weighs prompts by how hard they are;
    dividing an answer's loss by its length makes long wrong answers cheap (the reduction
    ``fixed_length`` divides by a constant). The mean has the completion itself in it: this is
    RLOO's advantage times (G - 1) / G, the same gradient at another learning rate. A group of one
    completion has advantage 0.

    >>> import torch
    >>> scores, mask = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([[True]] * 3)
    >>> made = Rewarded(scores, scores.unsqueeze(1), mask, torch.tensor([0, 0, 1]))
    >>> DrGRPO()(made).flatten().tolist()
    [-1.0, 1.0, 0.0]
    """

    needs_critic: ClassVar = False
    needs_groups: ClassVar = True

    def __call__(self, rewarded: Rewarded) -> Tensor:
        """Advantages (B, T), zero outside the mask."""
        returns = rewarded.returns
        return rewarded.on_tokens(returns - rewarded.by_prompt.mean(returns))
