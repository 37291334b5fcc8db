"""Fine-tuning on the chosen completions alone: what any preference method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["SFT"]


@dataclass(frozen=True)
class SFT:
    """``-log π(y_w) / |y_w|``: the mean NLL of each chosen completion.

    A mean of means over pairs; TRL's ``sft`` is a mean over the tokens of a batch, which agrees
    where lengths do. On completions of one token it lands on the law of the chosen ones.

    >>> SFT()(PairLogps.of(policy=(-6, -9), length=(3, 3))).loss.item()
    2.0
    """

    needs_reference: ClassVar = False

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.mean, logps.rejected.mean
        return PairLoss(-chosen, chosen.detach(), rejected.detach())
