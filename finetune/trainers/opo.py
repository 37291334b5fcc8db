"""OPO: strictly on-policy REINFORCE with the baseline of least variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Count, NonNegative, Positive
from siftune.finetune.rl.settings import Reduction
from siftune.finetune.training.on_policy import OnPolicy

__all__ = ["OPO"]


@dataclass(frozen=True, kw_only=True)
class OPO(OnPolicy):
    """On-policy RL with optimal reward baseline, Hao et al. 2025, arXiv:2505.23585.

    An answer's advantage is its reward less the mean of its group weighted by length; the loss is
    ``-A log π``, whole answers at a time, with one update a rollout and neither clip nor KL, as in
    the paper. The baseline has the answer itself in it, so the gradient is that of the mean reward
    up to a factor that depends on lengths. The policy tends to the best answer of each prompt.
    ``kl_stop`` still ends a run at 50 nats an answer from the reference.
    """

    reads: ClassVar = "rows"

    advantage: str = "opo"
    policy_loss: str = "reinforce"
    reduction: Reduction = "fixed_length"
    batch_size: Count = 8
    group_size: Count = 8
    minibatches: Count = 1
    epochs: Count = 1
    temperature: Positive = 1.0
    kl_coef: NonNegative = 0.0
    lr: Positive = 1e-6
