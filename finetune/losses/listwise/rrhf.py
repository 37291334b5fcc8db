"""RRHF: rank completions as their scores do, and fine-tune on the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.list_types import ListLogps, ListLoss, best
from siftune.finetune.losses.ranges import within

__all__ = ["RRHF"]


@dataclass(frozen=True)
class RRHF:
    """``rank_weight · Σ_{r_i < r_j} max(0, p_i - p_j) - mean log π(best)``.

    Yuan et al. 2023, arXiv:2304.05302: ``p = log π / |y| ** length_penalty``, no margin, no
    reference. ``rank_weight`` 1 is the paper's, the authors' code has 100. The term of the best
    completion is its mean per token: the paper sums, the code divides by the padded length.
    Several best ones share it. The ranking costs nothing where its order is that of the scores; it
    has no optimum in closed form.

    Options:
        rank_weight: Weight of the ranking term beside fine-tuning on the best answer.

    >>> logps = ListLogps.of(policy=(-4, -2), length=(2, 2), score=(1, 0))
    >>> RRHF()(logps).loss.item()  # (-1 - -2) + 2
    3.0
    """

    rank_weight: float = 1.0
    length_penalty: float = 1.0

    needs_reference: ClassVar = False
    needs_columns: ClassVar = ("score",)

    def __post_init__(self) -> None:
        within(self, rank_weight="[0, inf)", length_penalty="[0, inf)")

    def __call__(self, logps: ListLogps) -> ListLoss:
        """Loss of each list."""
        answers = logps.answers
        p = answers.policy / answers.length**self.length_penalty
        wrong = torch.relu(p[..., None, :] - p[..., :, None])  # of the second over the first
        rank = (wrong * logps.better).sum((-2, -1))
        loss = self.rank_weight * rank - (best(logps) * answers.mean).sum(-1)
        return ListLoss(loss, p.detach())
