"""Squared distance of the gap from a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["SquareGap"]


@dataclass(frozen=True)
class SquareGap:
    """``(Δ - target)²``; IPO with its target given.

    >>> SquareGap(target=2)(PairLogps.of(policy=(-6, -9), ref=(-5, -7))).loss.item()
    1.0

    Options:
        target: Log-ratio gap, in nats, at which the loss is 0.
    """

    target: float = 5.0

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        loss = (logps.gap - self.target) ** 2
        return PairLoss(loss, logps.chosen.ratio.detach(), logps.rejected.ratio.detach())
