"""CISPO: REINFORCE with clipped importance weights, in which every token keeps a gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from siftune.curate.core.ranges import Positive, PositiveShare
from siftune.finetune.policy_losses.types import PolicyBatch

__all__ = ["CISPO"]


@dataclass(frozen=True)
class CISPO:
    """``-sg(clip(ρ, 1 - clip_low, 1 + clip_high)) · A · log π`` with ``ρ = π/π_old``, a token.

    MiniMax-M1, 2025, arXiv:2506.13585, equations 4 and 5; sg: no gradient. PPO's clip takes the
    gradient from a token whose ratio left the range, often the rare token at which a solution
    turns; here its weight is bounded instead. The paper leaves the lower bound off (``clip_low``
    1) and tunes the upper one without naming it; a largest weight of 5 (``clip_high`` 4) is that of
    arXiv:2510.13786. Without sg the loss would be another one: its gradient ``ρ A ∇log π`` grows
    without bound.

    Options:
        clip_low: Room of the weight below 1; 1 leaves it open.
        clip_high: Room of the weight above 1.

    >>> import torch
    >>> logps = torch.tensor([[9.0, 2.0]]).log().requires_grad_()
    >>> mask = torch.tensor([[True] * 2])
    >>> batch = PolicyBatch(logps, torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), mask)
    >>> CISPO()(batch).sum().backward()
    >>> [round(one, 4) for one in logps.grad.flatten().tolist()]  # ρ is 9 and 2
    [-5.0, 2.0]
    """

    clip_low: PositiveShare = 1.0
    clip_high: Positive = 4.0

    def __call__(self, batch: PolicyBatch) -> Tensor:
        """Loss of each token."""
        weight = batch.ratios.detach().clamp(1 - self.clip_low, 1 + self.clip_high)
        return -weight * batch.advantages * batch.logps.masked_fill(~batch.mask, 0)

    def clipped(self, batch: PolicyBatch) -> Tensor:
        """The tokens whose weight is bounded."""
        ratio = batch.ratios
        return (ratio < 1 - self.clip_low) | (ratio > 1 + self.clip_high)
