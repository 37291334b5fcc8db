"""REINFORCE++: rewards-to-go whitened over the whole rollout, in PPO's clipped loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import Count, NonNegative, Positive
from siftune.finetune.rl.settings import KLPlace
from siftune.finetune.training.on_policy import OnPolicy

__all__ = ["ReinforcePP"]


@dataclass(frozen=True, kw_only=True)
class ReinforcePP(OnPolicy):
    """REINFORCE++, Hu et al. 2025, arXiv:2501.03262: PPO without a value model.

    The advantage of a token is the score less ``kl_coef`` times the log-ratios from it on (k1),
    brought to mean 0 and variance 1 over all tokens of the rollout: one answer to each prompt is
    enough. The loss is PPO's clipped one. ``kl_coef`` 0.01 is OpenRLHF's default.

    Whitening takes one number from all returns, KL included, and divides all by another: over a
    large rollout the expected update is that of E[r] - β KL at another learning rate, whose optimum
    is π_ref · exp(r / β), normalised.
    """

    reads: ClassVar = "rows"

    advantage: str = "reinforce_pp"
    minibatches: Count = 4
    epochs: Count = 1
    temperature: Positive = 1.0
    kl_in: KLPlace | None = "reward"
    kl_coef: NonNegative = 0.01
    lr: Positive = 1e-6
