"""Cost model of Safe RLHF: which answer is safer, and whether each is safe at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.reward_types import Compared

__all__ = ["SafeRLHFCost"]


@dataclass(frozen=True)
class SafeRLHFCost:
    """Bradley-Terry on which of two answers is safer, and the sign of each answer's score.

    Dai et al. 2023, arXiv:2310.12773, section 3.2: ``-log σ(C(y_w) - C(y_l)) - log σ(s_w C(y_w)) -
    log σ(s_l C(y_l))``, y_w the more harmful answer, s 1 for a harmful answer and -1 for a harmless
    one. The score that this learns is ``-C``, so that, as of any reward model, the chosen (safer)
    answer has the higher one: it is above 0 where an answer is safe, and ``scale: -1`` of the
    reward `reward_model` makes it the cost. Pairs with an answer of unknown safety are
    refused, or left out with ``on_bad: drop``. Each comparison counts 1 in the mean. Pairs of two
    safe or of two harmful answers teach the order alone, which the sign is then measured
    against.

    >>> pair = Compared.of([1.0, -2.0], safe=[1, 0])
    >>> round(SafeRLHFCost()(pair).item(), 4)  # -log σ(3) - log σ(1) - log σ(2)
    0.4888
    """

    by_prompt: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("win_rates", "weights")
    needs: ClassVar[tuple[str, ...]] = ("safe",)

    def __call__(self, compared: Compared) -> torch.Tensor:
        """Sum over the comparisons of each prompt."""
        safe = compared.columns["safe"]
        signed = torch.where(safe > 0, compared.scores, -compared.scores)
        signs = torch.where(safe.isnan(), 0.0, -F.logsigmoid(signed))
        both = signs[:, :, None] + signs[:, None, :]
        return compared.over_comparisons(both - F.logsigmoid(compared.gaps))

    def count(self, compared: Compared) -> torch.Tensor:
        """Its comparisons."""
        return compared.comparisons
