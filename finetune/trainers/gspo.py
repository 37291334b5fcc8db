"""GSPO: GRPO whose ratios and clips are those of whole answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Count, NonNegative, Positive
from siftune.finetune.rl.settings import Reduction
from siftune.finetune.training.on_policy import OnPolicy

__all__ = ["GSPO"]


@dataclass(frozen=True, kw_only=True)
class GSPO(OnPolicy):
    """Group sequence policy optimisation, Zheng et al. 2025, arXiv:2507.18071.

    GRPO's advantage, and one ratio for each answer, the geometric mean of its tokens' ratios,
    clipped at 1 - 3e-4 and 1 + 4e-4 (``clip_low``, ``clip_high``): an answer is clipped whole. The
    loss is the mean over answers; four mini-batches a rollout are the paper's. There is no KL in
    the paper; ``kl_coef`` above 0 puts one into the reward. It ends where GRPO without KL does, at
    the best answer of each prompt, of those that were sampled while they were likely enough; small
    groups count ranks more than scores (`finetune.advantages.grpo`), and may end at another.
    ``kl_stop`` still ends a run at 50 nats an answer from the reference.
    """

    reads: ClassVar = "rows"

    advantage: str = "grpo"
    policy_loss: str = "gspo"
    reduction: Reduction = "answer_mean"
    batch_size: Count = 8
    group_size: Count = 8
    minibatches: Count = 4
    epochs: Count = 1
    temperature: Positive = 1.0
    kl_coef: NonNegative = 0.0
    lr: Positive = 1e-6
