"""K-wise Bradley-Terry: all pairs of one prompt are one element, divided by their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.reward_types import Compared

__all__ = ["KWise"]


@dataclass(frozen=True)
class KWise:
    """``-1 / C(K, 2) · Σ log σ(r_i - r_j)`` over the pairs of K answers to one prompt.

    Ouyang et al. 2022, arXiv:2203.02155, equation 1: each prompt counts 1 in the mean, and each
    answer is encoded once. Answers that tie are not compared, and C(K, 2) stays. With two answers
    it is Bradley-Terry. Pairs with the same prompt are put together: an answer that several of them
    share is one of the K, and opinions on the same two answers share the weight of their pair.

    >>> round(KWise()(Compared.of([1.0, 0.0])).item(), 4)  # -log σ(1)
    0.3133
    >>> round(KWise()(Compared.of([0.0, 0.0, 0.0, 0.0])).item(), 4)  # ln 2, whatever K is
    0.6931
    """

    by_prompt: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("margins", "win_rates")
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, compared: Compared) -> torch.Tensor:
        """Mean over the pairs of each prompt."""
        pairs = compared.wins + compared.wins.transpose(1, 2)
        share = compared.wins / pairs.clamp(min=1e-12)
        losses = torch.where(compared.wins > 0, share * -F.logsigmoid(compared.gaps), 0.0)
        answers = compared.mask.sum(1)
        return losses.sum((1, 2)) / (answers * (answers - 1) / 2).clamp(min=1)

    def count(self, compared: Compared) -> torch.Tensor:
        """1 for each prompt."""
        return compared.any_comparison
