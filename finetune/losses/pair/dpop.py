"""DPO-Positive: DPO that also holds up the probability of the chosen completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["DPOP"]


@dataclass(frozen=True)
class DPOP:
    """DPO with a charge once the policy likes ``chosen`` less than the reference does.

    Pal et al. 2024, arXiv:2402.13228. DPO can lower both completions as long as the gap between
    them grows, most of all when they differ in a few tokens; ``penalty`` (λ in the paper) is what
    each nat of lost ``chosen`` log-probability costs. That β 0.3 and λ 50 are those of the paper's
    experiments is assumed. ``penalty = 0`` is DPO. The charge is inside β, as in the paper; some
    ports put it outside.

    Options:
        penalty: Price of each nat of log-probability that the chosen answer loses, λ; 0 is DPO.

    >>> worse_than_reference = PairLogps.of(policy=(-6, -9), ref=(-5, -7))
    >>> round(DPOP(beta=1, penalty=0)(worse_than_reference).loss.item(), 4)  # -log σ(-1 + 2)
    0.3133
    >>> round(DPOP(beta=1, penalty=5)(worse_than_reference).loss.item(), 4)  # -log σ(-1 + 2 - 5)
    4.0181
    """

    beta: float = 0.3
    penalty: float = 50.0

    needs_reference: ClassVar = True

    def __post_init__(self) -> None:
        within(self, penalty="[0, inf)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen = logps.policy_chosen - logps.ref_chosen
        rejected = logps.policy_rejected - logps.ref_rejected
        lost = torch.relu(-chosen)
        loss = -F.logsigmoid(self.beta * (chosen - rejected - self.penalty * lost))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
