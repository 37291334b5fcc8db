"""GSPO: the clipped surrogate with one ratio a completion, the mean of its tokens' log-ratios."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from siftune.curate.core.ranges import Positive, PositiveShare
from siftune.finetune.policy_losses.types import PolicyBatch

__all__ = ["GSPO"]


@dataclass(frozen=True)
class GSPO:
    """``max(-A s, -A clip(s, 1 - clip_low, 1 + clip_high))``, ``s = exp(mean_t log(π/π_old))``.

    Group sequence policy optimization, Zheng et al. 2025, arXiv:2507.18071, equations 5 and 7: a
    reward of whole answers is weighed by a ratio of whole answers, and an answer is clipped whole.
    The mean over the answer's tokens (of the log-ratio, not its sum) keeps the ratio near 1, so the
    range is far smaller than PPO's: 3e-4 and 4e-4 are those of the paper (section 5.1).

    The ratio of a token is ``sg(s) · π / sg(π)`` (sg: no gradient; GSPO-token, equation 14), which
    has the value s and, with one advantage an answer, the very gradient of equation 5 under the
    reduction ``answer_mean``; advantages that differ from token to token are allowed too.

    Options:
        clip_low: Largest fall of an answer's probability ratio below 1 that the loss rewards.
        clip_high: Largest rise of an answer's probability ratio above 1 that the loss rewards.

    >>> ratio, mask = torch.tensor([[4.0, 1.0, 9.0]]), torch.tensor([[True, True, False]])
    >>> batch = PolicyBatch(ratio.log(), torch.zeros(1, 3), torch.tensor([[-1.0, -1.0, 0]]), mask)
    >>> [round(one, 4) for one in GSPO()(batch)[mask].tolist()]  # √(4 · 1)
    [2.0, 2.0]
    """

    clip_low: PositiveShare = 3e-4
    clip_high: Positive = 4e-4

    def __call__(self, batch: PolicyBatch) -> Tensor:
        """Loss of each token."""
        ratio, advantages = self._ratios(batch), batch.advantages
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        return torch.maximum(-advantages * ratio, -advantages * clipped)

    def clipped(self, batch: PolicyBatch) -> Tensor:
        """The tokens of the answers whose ratio is outside of the range."""
        ratio = self._ratios(batch)
        return (ratio < 1 - self.clip_low) | (ratio > 1 + self.clip_high)

    def _ratios(self, batch: PolicyBatch) -> Tensor:
        """The ratio of the answer on each of its tokens, with the gradient of each token's own."""
        count = batch.mask.sum(1, keepdim=True).clamp(min=1)
        mean = batch.log_ratios.detach().sum(1, keepdim=True) / count
        own = batch.log_ratios
        return (mean + (own - own.detach())).exp()
