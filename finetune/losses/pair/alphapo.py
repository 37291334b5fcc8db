"""AlphaPO: SimPO with a reward that is bent by a power of the probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["AlphaPO"]


@dataclass(frozen=True)
class AlphaPO:
    """``-log σ(β ρ_w - β ρ_l - γ)`` with ``ρ = (1 - p^-α) / α`` and p the mean-token probability.

    Gupta et al. 2025, arXiv:2501.03884. ``p = exp(m)``, m the mean log-probability per token; as α
    tends to 0 the reward is m and the loss SimPO's; TRL has the same ρ. That α 0.25, β 2.5 and
    ratio 0.1 are among the authors' settings is assumed. Rewards of m below -40/α are carried on as
    straight lines where they would overflow. No reference, no closed-form optimum.

    Options:
        alpha: Bend of the reward, α: at 0 it is the mean log-probability, as in SimPO.
        beta: Scale of the gap of the two rewards, β: a larger one makes the loss steeper.

    >>> pair = PairLogps.of(policy=(-1, -2), length=(1, 1))
    >>> loss = AlphaPO(alpha=1, beta=1, gamma_beta_ratio=0)(pair).loss  # ρ = 1 - e and 1 - e²
    >>> round(loss.item(), 4)  # -log σ(e² - e)
    0.0093
    """

    alpha: float = 0.25
    beta: float = 2.5
    gamma_beta_ratio: float = 0.1

    needs_reference: ClassVar = False

    def __post_init__(self) -> None:
        within(self, alpha="(-inf, inf)", gamma_beta_ratio="[0, inf)")
        if self.alpha == 0:
            raise ValueError("alpha is not 0: that is simpo")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = self._reward(logps.chosen.mean), self._reward(logps.rejected.mean)
        loss = -F.logsigmoid(self.beta * (chosen - rejected - self.gamma_beta_ratio))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())

    def _reward(self, mean: torch.Tensor) -> torch.Tensor:
        held = mean.clamp(min=-40 / abs(self.alpha))
        power = torch.exp(-self.alpha * held) * (1 + self.alpha * (held - mean))
        return (1 - power) / self.alpha
