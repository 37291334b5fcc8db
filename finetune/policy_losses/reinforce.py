"""REINFORCE: the score function estimator, without ratio or clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from siftune.finetune.policy_losses.types import PolicyBatch

__all__ = ["Reinforce"]


@dataclass(frozen=True)
class Reinforce:
    """``-A · log π``, one value a token; Williams 1992, "Simple statistical gradient-following".

    Its gradient is that of the expected reward on samples of the very policy that is updated: one
    step a rollout (``epochs`` 1, ``minibatches`` 1). Further steps on the same rollout are not
    corrected for; objectives with a ratio are for those. At the first step after a rollout it has
    the gradient of the others, whose ratio is then 1.

    >>> import torch
    >>> logps = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    >>> mask = torch.tensor([[True] * 2])
    >>> batch = PolicyBatch(logps, logps.detach(), torch.tensor([[3.0, -1.0]]), mask)
    >>> Reinforce()(batch).tolist()
    [[3.0, -2.0]]
    """

    one_step: ClassVar[bool] = True  # a rollout, because there is no ratio

    def __call__(self, batch: PolicyBatch) -> Tensor:
        """Loss of each token."""
        return -batch.advantages * batch.logps.masked_fill(~batch.mask, 0)
