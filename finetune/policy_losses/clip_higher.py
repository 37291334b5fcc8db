"""DAPO's clip-higher: a clipped surrogate whose range reaches further up than down."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from siftune.curate.core.ranges import Positive, PositiveShare
from siftune.finetune.core.types import DualClip
from siftune.finetune.policy_losses.types import PolicyBatch

__all__ = ["ClipHigher"]


@dataclass(frozen=True)
class ClipHigher:
    """``max(-A ρ, -A clip(ρ, 1 - clip_low, 1 + clip_high))`` with ``ρ = π/π_old``, a token.

    DAPO, Yu et al. 2025, arXiv:2503.14476, equation 10 and section 3.1, with its 0.2 and 0.28: a
    range of equal width lets a token of probability .01 rise to .012 only, one of .9 up to 1, which
    drains the entropy; the room above is for rare tokens. ``clip_low`` stays small, or the
    probability of bad tokens falls to 0. With both equal it is PPO's. ``dual_clip`` is as there.

    Options:
        clip_low: Largest fall of a token's probability ratio below 1 that the loss rewards.
        clip_high: Largest rise of a token's probability ratio above 1 that the loss rewards.
        dual_clip: Bound, above 1, of the loss of tokens with a negative advantage; none leaves it
            open.

    >>> ratio, advantage = torch.tensor([[1.5, 0.5]]), torch.tensor([[1.0, -1.0]])
    >>> batch = PolicyBatch(ratio.log(), torch.zeros(1, 2), advantage, torch.tensor([[True] * 2]))
    >>> [round(one, 4) for one in ClipHigher()(batch).flatten().tolist()]
    [-1.28, 0.8]
    """

    clip_low: PositiveShare = 0.2
    clip_high: Positive = 0.28
    dual_clip: DualClip | None = None

    def __call__(self, batch: PolicyBatch) -> Tensor:
        """Loss of each token."""
        ratio, advantages = batch.ratios, batch.advantages
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        loss = torch.maximum(-advantages * ratio, -advantages * clipped)
        if self.dual_clip is None:
            return loss
        return torch.where(advantages < 0, torch.minimum(loss, -advantages * self.dual_clip), loss)

    def clipped(self, batch: PolicyBatch) -> Tensor:
        """The tokens whose ratio is outside of the range."""
        ratio = batch.ratios
        return (ratio < 1 - self.clip_low) | (ratio > 1 + self.clip_high)
