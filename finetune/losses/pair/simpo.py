"""SimPO: no reference; the reward is the log-probability per token, and it must win by a margin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["SimPO"]


@dataclass(frozen=True)
class SimPO:
    """``-log σ(β m_w - β m_l - γ)``, m the mean log-probability of a completion's tokens.

    Meng et al. 2024, arXiv:2405.14734, equation 6. ``gamma_beta_ratio`` is γ / β: the margin in
    nats per token; β 2 and ratio 0.25 are the authors' code (they use β 2–10, ratio 0.1–0.8).
    TRL's ``CPOTrainer(loss_type="simpo")`` asks for γ itself, and its defaults (β 0.1, γ 0.5, plus
    an NLL term of weight 1) are a margin of 5 nats per token and another objective. Nothing holds
    the policy near where it started but the learning rate; there is no closed-form optimum.

    Options:
        beta: Scale of the gap of the mean log-probabilities, β: a larger one makes the loss
            steeper.

    >>> pair = PairLogps.of(policy=(-6, -9), length=(6, 6))
    >>> round(SimPO()(pair).loss.item(), 4)  # -log σ(2·(-1) - 2·(-1.5) - 0.5) = -log σ(0.5)
    0.4741
    """

    beta: float = 2.0
    gamma_beta_ratio: float = 0.25

    needs_reference: ClassVar = False

    def __post_init__(self) -> None:
        within(self, gamma_beta_ratio="[0, inf)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.mean, logps.rejected.mean
        loss = -F.logsigmoid(self.beta * (chosen - rejected - self.gamma_beta_ratio))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
