"""GRPO: policy optimisation by rewards relative to a group of answers, without a value model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Count, NonNegative, Positive
from siftune.finetune.rl.settings import KLPlace, Reduction
from siftune.finetune.training.on_policy import OnPolicy

__all__ = ["GRPO"]


@dataclass(frozen=True, kw_only=True)
class GRPO(OnPolicy):
    """Group relative policy optimisation; DeepSeekMath, Shao et al. 2024, arXiv:2402.03300.

    Each prompt is answered ``group_size`` times; an answer's advantage is its reward less the mean
    of its group, divided by the group's deviation, on each of its tokens. The loss is PPO's clipped
    one plus ``kl_coef`` (β) times k3, the mean over each answer's tokens and then over answers. β
    0.04, one update a rollout and 1e-6 are the paper's, which has 64 answers to each of 16 prompts.

    Two things keep it from the optimum of E[r] - β KL, π_ref · exp(r / β): the division weighs
    prompts by their spread, and k3 as a loss has the gradient of KL(π_ref ‖ π). It ends where its
    own expected update is 0. `dr_grpo` and `rloo` have neither.
    """

    reads: ClassVar = "rows"

    advantage: str = "grpo"
    reduction: Reduction = "answer_mean"
    batch_size: Count = 8
    group_size: Count = 8
    minibatches: Count = 1
    epochs: Count = 1
    temperature: Positive = 1.0
    kl_in: KLPlace | None = "loss"
    kl_coef: NonNegative = 0.04
    lr: Positive = 1e-6
