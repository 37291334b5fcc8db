"""EXO: the reverse KL to the labels, which seeks the mode where DPO covers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["EXO"]


@dataclass(frozen=True)
class EXO:
    """``KL(q ‖ (1 - ε, ε))`` with ``q = (σ(β Δ), σ(-β Δ))``.

    Ji et al. 2024, arXiv:2402.00856, equation 16 for two completions. ``label_smoothing`` is ε and
    cannot be 0, where the KL is infinite; 0.001 is the authors' code (and TRL's hint). The loss of
    a pair is 0 at ``β Δ = logit(1 - ε)``; with a chance p that chosen is the better, a pair lands
    on ``β Δ = (2p - 1) logit(1 - ε)``.

    >>> round(EXO(beta=1, label_smoothing=0.25)(PairLogps.of((0, 0), (0, 0))).loss.item(), 4)
    0.1438
    """

    beta: float = 0.1
    label_smoothing: float = 1e-3

    needs_reference: ClassVar = True

    def __post_init__(self) -> None:
        within(self, label_smoothing="(0, 0.5)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        logit = self.beta * (chosen - rejected)
        flip = self.label_smoothing
        right = torch.sigmoid(logit) * (F.logsigmoid(logit) - math.log1p(-flip))
        wrong = torch.sigmoid(-logit) * (F.logsigmoid(-logit) - math.log(flip))
        return PairLoss(right + wrong, self.beta * chosen.detach(), self.beta * rejected.detach())
