"""APO-down: anchored; both completions are made less likely, rejected more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["APODown"]


@dataclass(frozen=True)
class APODown:
    """``σ(s_w) + σ(s_l - s_w)`` with ``s = β log π/π_ref``.

    D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 8: for chosen completions worse than the
    policy's own. The paper's is this less 1; TRL adds it, and so do we: the gradient is the
    same. Both terms are bounded; there is no optimum inside. β 0.1 as in the paper.

    >>> APODown(beta=1)(PairLogps.of((0, 0), (0, 0))).loss.item()
    1.0
    """

    beta: float = 0.1

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = self.beta * logps.chosen.ratio, self.beta * logps.rejected.ratio
        loss = torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen)
        return PairLoss(loss, chosen.detach(), rejected.detach())
