"""RAFT's step: fine-tuning on the best of K completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.finetune.losses.list_types import ListLogps, ListLoss, best

__all__ = ["BestOfK"]


@dataclass(frozen=True)
class BestOfK:
    """``-log π(y) / |y|`` of the completion of the highest ``score``; several best ones share it.

    Dong et al. 2023, arXiv:2304.06767: sample K, keep the best, fine-tune, again. The sampler must
    give K completions of the policy for each prompt and their rewards; K = 1 is fine-tuning. On
    completions of one token it lands on the law of the best: with F the chance that a sample's
    reward is at most that of y, ``F(y)^K`` less the same for those below, whose KL to the policy
    that was sampled is at most ``log K - (K - 1) / K``.

    >>> BestOfK()(ListLogps.of(policy=(-4, -6), length=(2, 2), score=(0, 1))).loss.item()
    3.0
    """

    needs_reference: ClassVar = False
    needs_columns: ClassVar = ("score",)

    def __call__(self, logps: ListLogps) -> ListLoss:
        """Loss of each list."""
        mean = logps.answers.mean
        return ListLoss(-(best(logps) * mean).sum(-1), mean.detach())
