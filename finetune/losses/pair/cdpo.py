"""Conservative DPO: DPO that expects a share of the labels to be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["CDPO"]


@dataclass(frozen=True)
class CDPO:
    """``-(1 - ε) log σ(β Δ) - ε log σ(-β Δ)``: cross-entropy to labels smoothed by ε.

    Mitchell 2023, "A note on DPO with noisy preferences". ``label_smoothing`` is ε, the chance that
    a label is flipped; the note names no default, 0.1 is ours. The loss of a pair is least at
    ``β Δ = logit(1 - ε)`` and grows beyond, so a gap is never driven to infinity. ε = 0 is DPO.
    TRL 1.16 takes ``label_smoothing`` for its sigmoid loss and ignores it.

    >>> pair = PairLogps.of(policy=(-6, -9), ref=(-5, -7))
    >>> round(CDPO(beta=1, label_smoothing=0.25)(pair).loss.item(), 4)  # 0.75·0.3133 + 0.25·1.3133
    0.5633
    """

    beta: float = 0.1
    label_smoothing: float = 0.1

    needs_reference: ClassVar = True

    def __post_init__(self) -> None:
        within(self, label_smoothing="[0, 0.5)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen = logps.policy_chosen - logps.ref_chosen
        rejected = logps.policy_rejected - logps.ref_rejected
        logit = self.beta * (chosen - rejected)
        right, flipped = -F.logsigmoid(logit), -F.logsigmoid(-logit)
        loss = (1 - self.label_smoothing) * right + self.label_smoothing * flipped
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
