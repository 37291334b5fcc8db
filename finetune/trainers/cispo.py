"""CISPO: GRPO with bounded importance weights in place of a clip that silences tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Count, NonNegative, Positive
from siftune.finetune.training.on_policy import OnPolicy

__all__ = ["CISPO"]


@dataclass(frozen=True, kw_only=True)
class CISPO(OnPolicy):
    """Clipped importance sampling policy optimisation, MiniMax-M1, 2025, arXiv:2506.13585.

    GRPO's advantage; each token's ``-A log π`` is weighed by its ratio to the policy that wrote it,
    bounded above at ``1 + clip_high``, and no token loses its gradient. The loss is the mean over
    all tokens of a step. There is no KL in the paper; ``kl_coef`` above 0 puts one into the reward.
    Without a KL the policy tends to the best answer of each prompt, of those that were sampled
    while they were likely enough; small groups count ranks more than scores
    (`finetune.advantages.grpo`), and may end at another. ``kl_stop`` still ends a run at 50 nats an
    answer from the reference.
    """

    reads: ClassVar = "rows"

    advantage: str = "grpo"
    policy_loss: str = "cispo"
    batch_size: Count = 8
    group_size: Count = 8
    minibatches: Count = 4
    epochs: Count = 1
    temperature: Positive = 1.0
    kl_coef: NonNegative = 0.0
    lr: Positive = 1e-6
