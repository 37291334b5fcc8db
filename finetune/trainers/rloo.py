"""RLOO: REINFORCE with the mean reward of the prompt's other answers as baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Count, Positive
from siftune.finetune.rl.settings import KLPlace, Reduction
from siftune.finetune.training.on_policy import OnPolicy

__all__ = ["RLOO"]


@dataclass(frozen=True, kw_only=True)
class RLOO(OnPolicy):
    """REINFORCE leave-one-out, "Back to Basics", Ahmadian et al. 2024, arXiv:2402.14740.

    An answer's advantage is its reward, less ``kl_coef`` times its log-ratio to the reference (k1),
    less the mean of that over the other answers to the prompt. The loss is ``-A log π``, whole
    answers at a time: the gradient is unbiased, that of E[r] - β KL, whose optimum is
    π_ref · exp(r / β), normalised. It is made for one update a rollout; for more, set
    ``policy_loss`` to ppo_clip, which corrects for the change of the policy.
    """

    reads: ClassVar = "rows"

    advantage: str = "rloo"
    policy_loss: str = "reinforce"
    reduction: Reduction = "fixed_length"
    batch_size: Count = 16
    group_size: Count = 4
    minibatches: Count = 1
    epochs: Count = 1
    temperature: Positive = 1.0
    kl_in: KLPlace | None = "reward"
    lr: Positive = 1e-6
