"""XPO: online DPO with a bonus for leaving the reference's samples behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.list_types import ListLogps, ListLoss
from siftune.finetune.losses.ranges import within

__all__ = ["XPO"]


@dataclass(frozen=True)
class XPO:
    """``-log σ(β Δ) + α log π(y')``, Δ of the better over the worse of y and y'.

    Xie et al. 2024, arXiv:2405.21046, algorithm 1; β 0.1 and α 1e-5 are TRL's, with whose trainer
    (1.13 was its last) the value of a list of two was compared by reading. y is a sample of the
    policy and y' one of the reference; lowering the likelihood of y' is the paper's optimism: an
    exploration bonus for completions that are unlikely under the reference. ``score`` decides which
    is better, ``by_reference`` (1, else 0) which is the reference's. With several of each, the
    first term is a mean over pairs of one and the other, those of the same score left out, the
    second a mean over the reference's. α = 0 on a list of two is DPO.

    With ρ the law of y' and D the loss of DPO the optimum is where ``∂D / ∂log π + α (ρ - π) = 0``:
    off DPO's optimum, away from what is likelier under ρ than π.

    Options:
        alpha: Weight α of the exploration bonus; 0 is online DPO.

    >>> logps = ListLogps.of(policy=(-6, -9), ref=(-5, -7), score=(1, 0), by_reference=(0, 1))
    >>> round(XPO(beta=1, alpha=0.01)(logps).loss.item(), 4)  # -log σ(1) - 0.09
    0.2233
    """

    beta: float = 0.1
    alpha: float = 1e-5

    needs_reference: ClassVar = True
    needs_columns: ClassVar = ("score", "by_reference")
    on_policy: ClassVar = True

    def __post_init__(self) -> None:
        within(self, alpha="[0, inf)")

    def __call__(self, logps: ListLogps) -> ListLoss:
        """Loss of each list."""
        reward = self.beta * logps.answers.ratio
        theirs = (logps.column("by_reference") > 0) & logps.mask
        ours = logps.mask & ~theirs
        crossed = ours[..., :, None] & theirs[..., None, :]
        pairs = logps.better & (crossed | crossed.transpose(-1, -2))
        terms = -F.logsigmoid(reward[..., :, None] - reward[..., None, :]) * pairs
        prefer = terms.sum((-2, -1)) / pairs.sum((-2, -1)).clamp(min=1)
        known = (logps.answers.policy * theirs).sum(-1) / theirs.sum(-1).clamp(min=1)
        return ListLoss(prefer + self.alpha * known, reward.detach())
