"""BCO's loss on pairs: chosen and rejected classified each alone, without reward shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["BCOPair"]


@dataclass(frozen=True)
class BCOPair:
    """``-log σ(s_w) - log σ(-s_l)`` with ``s = β log π/π_ref``.

    Jung et al. 2024, arXiv:2404.04656, as TRL's ``bco_pair`` has it: without the paper's shift δ,
    which needs the rewards of a whole batch. A completion chosen with weight a and rejected with
    weight b is pulled to ``s = log(a / b)``. β 0.1 is TRL's.

    >>> round(BCOPair(beta=1)(PairLogps.of(policy=(-6, -9), ref=(-5, -7))).loss.item(), 4)
    1.4402
    """

    beta: float = 0.1

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = self.beta * logps.chosen.ratio, self.beta * logps.rejected.ratio
        loss = -F.logsigmoid(chosen) - F.logsigmoid(-rejected)
        return PairLoss(loss, chosen.detach(), rejected.detach())
