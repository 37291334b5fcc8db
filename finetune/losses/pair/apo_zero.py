"""APO-zero: anchored; chosen is made likelier and rejected less, each to a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["APOZero"]


@dataclass(frozen=True)
class APOZero:
    """``σ(-s_w) + σ(s_l)`` with ``s = β log π/π_ref``.

    D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 7: for chosen completions better than the
    policy's own. The paper's is this less 1; TRL adds it, and so do we: the gradient is the
    same. Both terms are bounded, so a completion mostly chosen is pushed up for ever, ever less;
    there is no optimum inside. β 0.1 as in the paper.

    >>> APOZero(beta=1)(PairLogps.of((0, 0), (0, 0))).loss.item()
    1.0
    """

    beta: float = 0.1

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = self.beta * logps.chosen.ratio, self.beta * logps.rejected.ratio
        loss = torch.sigmoid(-chosen) + torch.sigmoid(rejected)
        return PairLoss(loss, chosen.detach(), rejected.detach())
