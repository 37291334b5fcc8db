"""SPPO with a judge's win probability: log-ratios are pulled to the win rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["SPPOSoft"]


@dataclass(frozen=True)
class SPPOSoft:
    """``(l_w - (p - ½)/β)² + (l_l + (p - ½)/β)²``, p the chance that chosen beats rejected.

    Wu et al. 2024, arXiv:2405.00675, equation 4.7, in the form with p and 1 - p for the two
    completions (the paper's other form has each completion's own mean win rate). p is the row's
    ``win_probability``; at p = 1 it is ``sppo_hard``. β 0.001 as in the paper. A completion is
    pulled to ``l = (P - ½) / β``, P its mean win rate over the pairs it is in.

    Options:
        beta: Strength of the regularisation, 1/η in the paper: log-ratios are pulled to (p - ½) /
            β.

    >>> pair = PairLogps.of(policy=(-6, -9), ref=(-5, -7), win_probability=0.75)
    >>> SPPOSoft(beta=0.25)(pair).loss.item()  # (-1 - 1)² + (-2 + 1)²
    5.0
    """

    beta: float = 1e-3

    needs_reference: ClassVar = True
    needs_columns: ClassVar = ("win_probability",)

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        target = (logps.column("win_probability") - 0.5) / self.beta
        loss = (chosen - target) ** 2 + (rejected + target) ** 2
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
