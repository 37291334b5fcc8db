"""Length-normalised DPO: log-ratios per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["DPONorm"]


@dataclass(frozen=True)
class DPONorm:
    """``-log σ(β (ratio_w / |y_w| - ratio_l / |y_l|))``; TRL's ``sigmoid_norm``.

    Lambert et al. 2024 (Tülu 3), arXiv:2411.15124, section 5, with β 5. It is DPO with β / n on
    completions of n tokens both. Not RSO's sigmoid norm. It has no optimum in closed form: the
    normaliser of the policy does not cancel between completions of different lengths.

    >>> pair = PairLogps.of(policy=(-6, -9), ref=(-5, -7), length=(2, 4))
    >>> round(DPONorm(beta=1)(pair).loss.item(), 4)  # -log σ(-1/2 + 2/4)
    0.6931
    """

    beta: float = 5.0

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen = logps.chosen.ratio / logps.chosen.length
        rejected = logps.rejected.ratio / logps.rejected.length
        loss = -F.logsigmoid(self.beta * (chosen - rejected))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
