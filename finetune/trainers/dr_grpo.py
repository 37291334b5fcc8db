"""Dr. GRPO: GRPO without the division by deviation and by length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Count, NonNegative, Positive
from siftune.finetune.rl.settings import Reduction, Schedule
from siftune.finetune.training.on_policy import OnPolicy

__all__ = ["DrGRPO"]


@dataclass(frozen=True, kw_only=True)
class DrGRPO(OnPolicy):
    """GRPO done right, "Understanding R1-Zero-Like Training", Liu et al. 2025, arXiv:2503.20783.

    An answer's advantage is its reward less the mean of its group; the loss of its tokens is summed
    and divided by ``max_new_tokens``, not by its length, so that long wrong answers are not cheap.
    There is no KL in the paper. With ``kl_coef`` above 0 it is in the reward (k1), and the optimum
    is π_ref · exp(r / β), normalised; without, the policy tends to the best answer of each prompt.
    ``kl_stop`` still ends a run at 50 nats an answer from the reference.
    """

    reads: ClassVar = "rows"

    advantage: str = "dr_grpo"
    reduction: Reduction = "fixed_length"
    batch_size: Count = 8
    group_size: Count = 8
    minibatches: Count = 1
    epochs: Count = 1
    temperature: Positive = 1.0
    kl_coef: NonNegative = 0.0
    lr: Positive = 1e-6
    schedule: Schedule = "constant"
