"""Bradley-Terry: the logistic loss of pairs, with margins and with win rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.reward_types import Compared

__all__ = ["BradleyTerry"]


@dataclass(frozen=True)
class BradleyTerry:
    """``-log σ(r_i - r_j - m)`` for each comparison in which i was preferred to j.

    Christiano et al. 2017, arXiv:1706.03741, section 2.2.3; the margin m is Llama 2's,
    arXiv:2307.09288, equation 2. Of a win rate p the loss is ``-p log σ(Δ) - (1-p) log σ(-Δ)``,
    which is least at ``Δ = log p / (1-p)``; several opinions on a pair add up to it. Each
    comparison counts 1 in the mean. Equal scores cost ln 2, and only differences of scores matter.

    >>> round(BradleyTerry()(Compared.of([1.0, 0.0])).item(), 4)  # -log σ(1)
    0.3133
    >>> round(BradleyTerry()(Compared.of([1.0, 0.0], margins=[[0, 1.0], [0, 0]])).item(), 4)  # ln 2
    0.6931
    """

    by_prompt: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("margins", "win_rates", "weights")
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, compared: Compared) -> torch.Tensor:
        """Sum over the comparisons of each prompt."""
        return compared.over_comparisons(-F.logsigmoid(compared.gaps))

    def count(self, compared: Compared) -> torch.Tensor:
        """Its comparisons."""
        return compared.comparisons
