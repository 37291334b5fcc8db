"""DNO: soft DPO towards the win rates among one's own samples, the last round as reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.list_types import ListLogps, ListLoss

__all__ = ["DNO"]


@dataclass(frozen=True)
class DNO:
    """``-σ(r_i - r_j) log σ(β Δ_ij)`` over ordered pairs, r the win rate; the mean of the two.

    Rosset et al. 2024, arXiv:2404.03715: regression by the log loss on win rates, in rounds. That
    algorithm 1 has σ of the difference of win rates as its soft label, and β for its η, is assumed,
    without the paper's text; so is β 0.1. The reference is the policy of the round
    before, π_t; the sampler must give K completions of it for each prompt and ``win_rate``, the
    chance of each to beat π_t (`list_types.win_rates` of a judge's matrix). A
    list's loss is the mean over its pairs; a list of one has none.

    The optimum of a round is ``π_t · exp(r / β)``, one step of mirror descent: the mean of the
    rounds tends to a Nash equilibrium of the game, the last one need not.

    >>> logps = ListLogps.of(policy=(0, 0), ref=(0, 0), win_rate=(0.75, 0.25))
    >>> round(DNO()(logps).loss.item(), 4)
    0.6931
    """

    beta: float = 0.1

    needs_reference: ClassVar = True
    needs_columns: ClassVar = ("win_rate",)
    on_policy: ClassVar = True

    def __call__(self, logps: ListLogps) -> ListLoss:
        """Loss of each list."""
        reward, rate = self.beta * logps.answers.ratio, logps.column("win_rate")
        logit = reward[..., :, None] - reward[..., None, :]
        label = (rate[..., :, None] - rate[..., None, :]).sigmoid()
        pairs = (logps.mask[..., :, None] & logps.mask[..., None, :]).triu(1)
        terms = -label * F.logsigmoid(logit) - (1 - label) * F.logsigmoid(-logit)
        loss = (terms * pairs).sum((-2, -1)) / pairs.sum((-2, -1)).clamp(min=1)
        return ListLoss(loss, reward.detach())
