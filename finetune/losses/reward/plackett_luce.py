"""Plackett-Luce: the likelihood of a whole ranking of the answers to one prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.reward_types import Compared

__all__ = ["PlackettLuce"]


@dataclass(frozen=True)
class PlackettLuce:
    """``-Σ_i log( exp r_i / Σ_{j = i or below i} exp r_j )``, answers from the best to the worst.

    Plackett 1975, Journal of the Royal Statistical Society C 24(2); for reward models on K ranked
    answers Zhu et al. 2023, arXiv:2301.11270. Each prompt counts 1 in the
    mean, and each answer is encoded once. With two answers it is Bradley-Terry; K equal scores cost
    ln K!. Answers that tie are not compared: a term has its own answer and those it was preferred
    to. Of pairs with the same prompt an answer competes with all those it was preferred to.

    >>> round(PlackettLuce()(Compared.of([1.0, 0.0])).item(), 4)  # -log σ(1)
    0.3133
    >>> round(PlackettLuce()(Compared.of([0.5, 0.5, 0.5])).item(), 4)  # ln 6
    1.7918
    """

    by_prompt: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, compared: Compared) -> torch.Tensor:
        """Negative log-likelihood of the ranking of each prompt."""
        scores = compared.scores
        own = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
        against = (compared.wins > 0) | own
        rivals = scores[:, None, :].expand(-1, scores.shape[1], -1)
        return (rivals.masked_fill(~against, -torch.inf).logsumexp(2) - scores).sum(1)

    def count(self, compared: Compared) -> torch.Tensor:
        """1 for each prompt."""
        return compared.any_comparison
