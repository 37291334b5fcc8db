"""WPO: DPO with pairs weighted by their likelihood under the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.types import Answers, PairLogps, PairLoss

__all__ = ["WPO"]


@dataclass(frozen=True)
class WPO:
    """``w · -log σ(β Δ)``, w the product of both completions' length-normalised weights.

    Zhou et al. 2024, arXiv:2406.11827, equation 2 with sampled alignment: a completion's weight is
    ``exp(mean over its tokens of log p(token) - log Σ_v p(v)²)``, 1 on average for the policy's own
    tokens; it has no gradient. ``clamp`` limits the product to 1 as the authors' code does
    (wzhouad/WPO); TRL does not. A policy that is certain of its tokens has weights of 1: DPO. With
    weights that move with the policy there is no optimum in closed form.

    Options:
        clamp: Limit the weight of a pair to 1, as the authors' code does.

    >>> certain = {"policy": torch.zeros(1, 1), "log_sum_squares": torch.zeros(1, 1)}
    >>> side = Answers(torch.zeros(1), torch.ones(1), torch.zeros(1), certain)
    >>> round(WPO()(PairLogps(side, side)).loss.item(), 4)  # 1 · ln 2
    0.6931
    """

    beta: float = 0.1
    clamp: bool = True

    needs_reference: ClassVar = True
    needs_tokens: ClassVar = ("policy", "log_sum_squares")
    weighs_by_policy: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        log_weight = _log_weight(logps.chosen) + _log_weight(logps.rejected)
        weight = torch.exp(log_weight.clamp(max=0) if self.clamp else log_weight)
        loss = weight * -F.logsigmoid(self.beta * (chosen - rejected))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())


@torch.no_grad()
def _log_weight(answers: Answers) -> torch.Tensor:
    aligned = answers.token("policy") - answers.token("log_sum_squares")
    return (aligned * answers.mask).sum(1) / answers.length
