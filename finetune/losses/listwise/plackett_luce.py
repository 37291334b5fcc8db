"""Plackett–Luce DPO: DPO on a whole ranking; with two completions it is DPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.list_types import ListLogps, ListLoss

__all__ = ["PlackettLuce"]


@dataclass(frozen=True)
class PlackettLuce:
    """``-Σ_i log( exp s_i / Σ_{j at or below i} exp s_j )`` with ``s = β log π/π_ref``.

    Rafailov et al. 2023, arXiv:2305.18290, appendix A.3, over completions in the order of their
    ``score``. Completions of the same score are not compared: a term has
    its own completion and those that score less. β 0.1. At the reference a ranking of K costs
    ln K!; with rankings drawn by Plackett–Luce from rewards r the optimum is
    ``π* ∝ π_ref · exp(r / β)``.

    >>> logps = ListLogps.of(policy=(0, 0, 0), ref=(0, 0, 0), score=(2, 3, 1))
    >>> round(PlackettLuce()(logps).loss.item(), 4)  # ln 6
    1.7918
    """

    beta: float = 0.1

    needs_reference: ClassVar = True
    needs_columns: ClassVar = ("score",)

    def __call__(self, logps: ListLogps) -> ListLoss:
        """Loss of each list."""
        reward = self.beta * logps.answers.ratio
        own = torch.eye(reward.shape[-1], dtype=torch.bool, device=reward.device)
        against = reward[..., None, :].masked_fill(~(logps.better | own), -torch.inf)
        terms = torch.logsumexp(against, -1) - reward  # 0 where there is no completion
        return ListLoss(terms.sum(-1), reward.detach())
