"""TDPO2: TDPO whose divergence term only holds down the rejected completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["TDPO2"]


@dataclass(frozen=True)
class TDPO2:
    """``-log σ(β (Δ - α (D_l - sg(D_w))))``, D a completion's sum over tokens of ``KL(π_ref ‖ π)``.

    Zeng et al. 2024, arXiv:2404.11999, equation 17: TDPO1 with the divergence of the rejected side
    held down by ``alpha``, and no gradient (sg) through that of the chosen one. ``KL`` is over the
    whole vocabulary at each position. α = 0 is DPO, with its optimum; otherwise there is no closed
    form. α 0.5 and β 0.1 are the authors' code.

    Options:
        alpha: Weight of the difference of the two sequential KL divergences; 0 is DPO.

    >>> import torch
    >>> from siftune.finetune.losses.types import Answers
    >>> tokens = {"policy": torch.zeros(1, 1), "ref_kl": torch.full((1, 1), 2.0)}
    >>> side = Answers(torch.zeros(1), torch.ones(1), torch.zeros(1), tokens)
    >>> round(TDPO2()(PairLogps(side, side)).loss.item(), 4)
    0.6931
    """

    beta: float = 0.1
    alpha: float = 0.5

    needs_reference: ClassVar = True
    needs_tokens: ClassVar = ("ref_kl",)

    def __post_init__(self) -> None:
        within(self, alpha="[0, inf)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        chosen_kl, rejected_kl = logps.chosen.summed("ref_kl"), logps.rejected.summed("ref_kl")
        drift = self.alpha * (rejected_kl - chosen_kl.detach())
        loss = -F.logsigmoid(self.beta * (chosen - rejected - drift))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
