"""DiscoPOP: a loss found by search, logistic for wrong pairs, exponential for right ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["DiscoPOP"]


@dataclass(frozen=True)
class DiscoPOP:
    """``(1 - m) · log(1 + e^-z) + m · e^-z`` with z = β Δ and ``m = σ(z / τ)``.

    Lu et al. 2024, arXiv:2406.08414, equation 5 (log-ratio modulated loss), β 0.1 and ``tau`` 0.05.
    It is not convex: between the two forms it has a hump near z = 0, which may hold a pair that
    the policy gets wrong. There is no optimum in closed form.

    Options:
        tau: Width of the passage between the logistic and the exponential loss, τ.

    >>> pair = PairLogps.of(policy=(-6, -9), ref=(-5, -7))  # z = 1: m is 1 to nine digits
    >>> round(DiscoPOP(beta=1)(pair).loss.item(), 4)  # e^-1
    0.3679
    """

    beta: float = 0.1
    tau: float = 0.05

    needs_reference: ClassVar = True

    def __post_init__(self) -> None:
        within(self, tau="(0, inf)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        z = self.beta * (chosen - rejected)
        exponential = torch.exp(F.logsigmoid(z / self.tau) - z)  # m e^-z: neither factor overflows
        loss = torch.sigmoid(-z / self.tau) * -F.logsigmoid(z) + exponential
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
