"""SPPO with hard labels: each log-ratio is pulled to half a win from even odds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["SPPOHard"]


@dataclass(frozen=True)
class SPPOHard:
    """``(l_w - 1/(2β))² + (l_l + 1/(2β))²`` with ``l = log π/π_ref``.

    Wu et al. 2024, arXiv:2405.00675, equation 4.7 with win rates 1 and 0; β (1/η there) 0.001 as in
    the paper, where TRL's default is 0.1. The authors' code takes half of it. A completion chosen
    in a share P of its pairs is pulled to ``l = (P - ½) / β``, which leaves out the policy's
    normaliser as the paper does.

    Options:
        beta: Strength of the regularisation, 1/η in the paper: log-ratios are pulled to ±1 / (2β).

    >>> SPPOHard(beta=0.5)(PairLogps.of(policy=(-6, -9), ref=(-5, -7))).loss.item()  # 2² + 1²
    5.0
    """

    beta: float = 1e-3

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        target = 1 / (2 * self.beta)
        loss = (chosen - target) ** 2 + (rejected + target) ** 2
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
