"""NCA: noise-contrastive alignment, which also keeps the chosen likelihood from falling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["NCA"]


@dataclass(frozen=True)
class NCA:
    """``-log σ(s_w) - ½ log σ(-s_w) - ½ log σ(-s_l)`` with ``s = β log π/π_ref``.

    Chen et al. 2024, arXiv:2402.05369, the pair form; β 0.1 is TRL's, and the default of the
    authors' code, whose runs on pairs have 0.01. A completion that is chosen with weight a and
    rejected with weight b is pulled to ``s = log(2a / (a + b))``: with β = 1 and pairs drawn from
    the reference that is the law of the winners.

    >>> round(NCA(beta=1)(PairLogps.of((0, 0), (0, 0))).loss.item(), 4)  # 2 ln 2
    1.3863
    """

    beta: float = 0.1

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = self.beta * logps.chosen.ratio, self.beta * logps.rejected.ratio
        noise = F.logsigmoid(-chosen) + F.logsigmoid(-rejected)
        loss = -F.logsigmoid(chosen) - 0.5 * noise
        return PairLoss(loss, chosen.detach(), rejected.detach())
