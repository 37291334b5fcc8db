"""Focal ranking with a barrier: hard pairs count more, and scores stay within an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import torch
import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.reward_types import Compared

__all__ = ["FocalRanking"]

_EDGE: Final = 1e-3


@dataclass(frozen=True)
class FocalRanking:
    """``-(1 - 2 max(0, P - ½))^γ log P`` with ``P = σ(r_i - r_j)``, and a barrier on each score.

    InternLM2, Cai et al. 2024, arXiv:2403.17297, section 4.2.1 (COOL): γ 2, and the barrier
    ``-log(x + 5) - log(5 - x)`` with the weight λ 0.02. A pair that is ranked wrong or even keeps
    its whole loss; one that is surely right has almost none. The barrier of a comparison is the
    mean of its two scores' barriers. Beyond 0.001 of its ends it is its tangent, so that a
    model that starts outside gets a loss and a gradient and no NaN. γ 0 and λ 0 is Bradley-Terry.

    Options:
        gamma: Power γ of the factor that pairs ranked right are weighed down by.
        barrier: Weight λ of the barrier; 0 is none.
        limit: End of the interval (-limit, limit) that the barrier keeps scores in.

    >>> loss = FocalRanking(barrier=0.0)
    >>> round(loss(Compared.of([0.0, 1.0])).item(), 4)  # wrong: -log σ(-1)
    1.3133
    >>> round(loss(Compared.of([1.0, 0.0])).item(), 4)  # (1 - 2 · 0.2311)² · 0.3133
    0.0906
    """

    gamma: float = 2.0
    barrier: float = 0.02
    limit: float = 5.0

    by_prompt: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("win_rates", "weights")
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        within(self, gamma="[0, inf)", barrier="[0, inf)", limit="(0, inf)")

    def __call__(self, compared: Compared) -> torch.Tensor:
        """Sum over the comparisons of each prompt."""
        gaps = compared.gaps
        easy = 2 * torch.relu(torch.sigmoid(gaps) - 0.5)
        # a power of 0 at 0 has no gradient, where easy is 1 by rounding
        factor = (1 - easy).clamp(min=1e-12) ** self.gamma
        walls = self._walls(compared.scores)
        both = (walls[:, :, None] + walls[:, None, :]) / 2
        return compared.over_comparisons(-factor * F.logsigmoid(gaps) + self.barrier * both)

    def count(self, compared: Compared) -> torch.Tensor:
        """Its comparisons."""
        return compared.comparisons

    def _walls(self, scores: torch.Tensor) -> torch.Tensor:
        edge = self.limit * (1 - _EDGE)
        inside = scores.clamp(-edge, edge)
        beyond = scores.abs() - edge
        slope = 1 / (self.limit - edge) - 1 / (self.limit + edge)
        wall = -torch.log(self.limit + inside) - torch.log(self.limit - inside)
        return wall + slope * torch.relu(beyond)
