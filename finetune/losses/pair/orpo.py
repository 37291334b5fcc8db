"""ORPO: no reference; fine-tuning on chosen plus a penalty on the odds of rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["ORPO"]


@dataclass(frozen=True)
class ORPO:
    """``-m_w - β log σ(log odds_w - log odds_l)``, with ``odds = p / (1 - p)`` and ``p = exp(m)``.

    Hong et al. 2024, arXiv:2403.07691, equations 4–7. m is a completion's mean log-probability per
    token, so p is the geometric mean of its token probabilities; β (λ in the paper) is 0.1. The
    first term is the mean NLL of each chosen completion; TRL's is a token mean over the batch and
    takes in the prompt. A p that rounds to 1 has its odds held at ``1 / eps`` of the number type.

    Options:
        beta: Weight of the penalty on the odds of the rejected answer, λ in the paper.

    >>> pair = PairLogps.of(policy=(-2, -6), length=(2, 3))  # m -1 and -2
    >>> round(ORPO(beta=1)(pair).loss.item(), 4)  # 1 - log σ(-0.5413 + 1.8546)
    1.2382
    """

    beta: float = 0.1

    needs_reference: ClassVar = False

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = logps.chosen.mean, logps.rejected.mean
        odds_ratio = _log_odds(chosen) - _log_odds(rejected)
        loss = -chosen - self.beta * F.logsigmoid(odds_ratio)
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())


def _log_odds(mean: torch.Tensor) -> torch.Tensor:
    """``log(p / (1 - p))`` of ``p = exp(mean)``."""
    mean = mean.clamp(max=-torch.finfo(mean.dtype).eps)
    return mean - torch.log(-torch.expm1(mean))
