"""GPO: DPO's gap under any convex loss: logistic, hinge, squared, exponential, and so on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["GPO"]


@dataclass(frozen=True)
class GPO:
    """``f(β Δ)`` for a function ``f`` that falls at 0.

    Tang et al. 2024, arXiv:2402.05749, table 1. The functions, with z = β Δ, and where they land
    when labels are Bradley–Terry with reward r:

    ``logistic`` ``log(1 + e^-z)`` is DPO and ``savage`` ``1 / (1 + e^z)²``: on ``π_ref·exp(r/β)``.
    ``exponential`` ``e^-z``: on ``π_ref·exp(r/2β)``. ``squared`` ``(1 - z)²`` is IPO with τ = β/2,
    times β²: on the least-squares fit of ``z = 2p - 1``. ``truncated_quadratic``
    ``max(0, 1 - z)²``: there too, while the fit stays in [-1, 1]. ``hinge`` ``max(0, 1 - z)`` is
    SLiC's with a reference: on a linear programme's solution. The paper names no one β, 0.1 is
    DPO's.
    ``exponential`` is carried on as a straight line for z below -20, where it would overflow.

    >>> pair = PairLogps.of(policy=(-6, -9), ref=(-5, -7))  # z = 1
    >>> [round(GPO(f=f, beta=1)(pair).loss.item(), 4) for f in ("savage", "exponential")]
    [0.0723, 0.3679]
    """

    f: Literal["logistic", "hinge", "squared", "exponential", "truncated_quadratic", "savage"] = (
        "logistic"
    )
    beta: float = 0.1

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        loss = _FUNCTIONS[self.f](self.beta * (chosen - rejected))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())


def _exponential(z: torch.Tensor) -> torch.Tensor:
    held = z.clamp(min=-_STEEPEST)
    return torch.exp(-held) * (1 + held - z)


_STEEPEST = 20.0
_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logistic": lambda z: -F.logsigmoid(z),
    "hinge": lambda z: torch.relu(1 - z),
    "squared": lambda z: (1 - z) ** 2,
    "exponential": _exponential,
    "truncated_quadratic": lambda z: torch.relu(1 - z) ** 2,
    "savage": lambda z: torch.sigmoid(-z) ** 2,
}
