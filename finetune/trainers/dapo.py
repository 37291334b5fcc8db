"""DAPO: GRPO with room for rare tokens, prompts that teach something, and a limit on length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Count, NonNegative, Positive, Share
from siftune.finetune.rl.settings import DynamicSampling, Schedule
from siftune.finetune.training.on_policy import OnPolicy

__all__ = ["DAPO"]


@dataclass(frozen=True, kw_only=True)
class DAPO(OnPolicy):
    """Decoupled clip and dynamic sampling policy optimisation, Yu et al. 2025, arXiv:2503.14476.

    GRPO's advantage with four changes: the clip reaches further up (0.2 and 0.28), prompts whose
    answers are all right or all wrong are replaced by others, the loss is the mean over all tokens
    of a step, and a punishment of length rises over the last fifth of ``max_new_tokens``. There is
    no KL; ``kl_coef`` above 0 puts one into the reward. Its overlong filtering is ``truncated:
    leave_out``. The learning rate is the paper's, constant; it has 16 answers to each of 512
    prompts in 16 mini-batches.

    Without a KL the policy tends to the best answer of each prompt. ``kl_stop`` still ends a run at
    50 nats an answer from the reference.
    """

    reads: ClassVar = "rows"

    advantage: str = "grpo"
    policy_loss: str = "clip_higher"
    batch_size: Count = 8
    group_size: Count = 8
    minibatches: Count = 4
    epochs: Count = 1
    temperature: Positive = 1.0
    dynamic_sampling: DynamicSampling = "redraw"
    overlong: Share = 0.2
    kl_coef: NonNegative = 0.0
    lr: Positive = 1e-6
    schedule: Schedule = "constant"
