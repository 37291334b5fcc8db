"""DPO as Llama 3 does it: formatting tokens are left out, fine-tuning is added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import Answers, PairLogps, PairLoss

__all__ = ["DPOLlama3"]


@dataclass(frozen=True)
class DPOLlama3:
    """DPO on log-probabilities without formatting tokens, plus ``0.2`` of the chosen NLL per token.

    Dubey et al. 2024, arXiv:2407.21783, section 4.1.4: headers and end-of-turn tokens are in both
    completions, and pushing them both ways teaches broken endings, so the tokenizer's special
    tokens are masked in both; ``sft_weight`` 0.2 times the NLL, over all tokens of the chosen
    completion, keeps its likelihood from falling; β 0.1. Without special tokens and with weight 0
    it is DPO.

    >>> tokens = {"policy": torch.tensor([[-1.0, -2.0]]), "reference": torch.zeros(1, 2)}
    >>> tokens["formatting"] = torch.tensor([[0, 1]])
    >>> side = Answers(torch.tensor([-3.0]), torch.tensor([2]), torch.zeros(1), tokens)
    >>> loss = DPOLlama3()(PairLogps(side, side))  # ln 2 + 0.2 · 3/2
    >>> round(loss.loss.item(), 4), round(loss.chosen_reward.item(), 4)  # β · -1
    (0.9931, -0.1)
    """

    beta: float = 0.1
    sft_weight: float = 0.2

    needs_reference: ClassVar = True
    needs_tokens: ClassVar = ("policy", "formatting")

    def __post_init__(self) -> None:
        within(self, sft_weight="[0, inf)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen, rejected = _ratio(logps.chosen), _ratio(logps.rejected)
        prefer = -F.logsigmoid(self.beta * (chosen - rejected))
        loss = prefer - self.sft_weight * logps.chosen.mean
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())


def _ratio(answers: Answers) -> torch.Tensor:
    ratio = answers.token("policy") - answers.token("reference")
    return (ratio * (1 - answers.token("formatting"))).sum(1)
