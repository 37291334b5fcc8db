"""LD-DPO: DPO that counts the part of a completion beyond the shorter one for less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import Answers, PairLogps, PairLoss

__all__ = ["LDDPO"]


@dataclass(frozen=True)
class LDDPO:
    """DPO on ``log p(first n tokens) + α log p(the rest)``, n the shorter completion's length.

    Liu et al. 2024, arXiv:2409.06411. A longer completion's log-probability moves more only because
    it has more tokens; ``alpha`` in [0, 1] is how much of the excess still counts, for policy and
    reference alike. α = 1 is DPO, as is any α for completions of one length. That the paper finds
    its best near 0.5 is assumed; TRL leaves it off.

    Options:
        alpha: Weight from 0 to 1 of the tokens beyond the length of the shorter answer; 1 is DPO.

    >>> tokens = {"policy": torch.tensor([[-1.0, -4.0]]), "reference": torch.zeros(1, 2)}
    >>> chosen = Answers(torch.tensor([-5.0]), torch.tensor([2]), torch.zeros(1), tokens)
    >>> short = {name: value[:, :1] for name, value in tokens.items()}
    >>> rejected = Answers(torch.tensor([-1.0]), torch.tensor([1]), torch.zeros(1), short)
    >>> LDDPO(beta=1, alpha=0.5)(PairLogps(chosen, rejected)).chosen_reward.item()  # -1 - 0.5·4
    -3.0
    """

    beta: float = 0.1
    alpha: float = 0.5

    needs_reference: ClassVar = True
    needs_tokens: ClassVar = ("policy",)

    def __post_init__(self) -> None:
        within(self, alpha="[0, 1]")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        shared = torch.minimum(logps.chosen.length, logps.rejected.length)
        chosen, rejected = self._ratio(logps.chosen, shared), self._ratio(logps.rejected, shared)
        loss = -F.logsigmoid(self.beta * (chosen - rejected))
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())

    def _ratio(self, answers: Answers, shared: torch.Tensor) -> torch.Tensor:
        ratio = answers.token("policy") - answers.token("reference")
        position = torch.arange(ratio.shape[1], device=ratio.device)
        return torch.where(position < shared[:, None], ratio, self.alpha * ratio).sum(1)
