"""TDPO1: DPO token by token, with the divergence of both completions from the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["TDPO1"]


@dataclass(frozen=True)
class TDPO1:
    """``-log σ(β (Δ - (D_l - D_w)))``, D a completion's sum over tokens of ``KL(π_ref ‖ π)``.

    Zeng et al. 2024, arXiv:2404.11999, equation 15: Bradley–Terry in a token-level bandit,
    whose optimum has the sequential KL in it. ``KL`` is over the whole vocabulary at each position.
    On completions of one token both D are the same state's and cancel, so it lands where DPO does;
    on longer ones it has no closed form. β 0.1.

    >>> import torch
    >>> from siftune.finetune.losses.types import Answers
    >>> tokens = {"policy": torch.zeros(1, 1), "ref_kl": torch.full((1, 1), 2.0)}
    >>> side = Answers(torch.zeros(1), torch.ones(1), torch.zeros(1), tokens)
    >>> round(TDPO1()(PairLogps(side, side)).loss.item(), 4)  # equal D cancel
    0.6931
    """

    beta: float = 0.1

    needs_reference: ClassVar = True
    needs_tokens: ClassVar = ("ref_kl",)

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        chosen_kl, rejected_kl = logps.chosen.summed("ref_kl"), logps.rejected.summed("ref_kl")
        drift = rejected_kl - chosen_kl
        loss = -F.logsigmoid(self.beta * (chosen - rejected - drift))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
