"""A limit on the mean cost of answers: the multiplier that weighs cost against reward."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siftune.curate.core.ranges import NonNegative, Positive

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CostLimit", "CostOptions"]

_LARGEST: Final = 1e6
_RATE: Final = 0.1
_START: Final = 1.0


@dataclass(frozen=True)
class CostLimit:
    """Lagrangian PPO: the multiplier λ rises while the mean cost is above ``limit``, else it falls.

    Safe RLHF, Dai et al. 2023, arXiv:2310.12773, equations 9 to 11. An answer with reward r and
    cost c has the score ``(r - λ c) / (1 + λ)``, so that a large λ does not make the update large.
    After a rollout of mean cost J, ``ln λ += rate · λ · (J - limit)``: gradient ascent on ln λ. λ
    is above 0 once it is, and a λ of 0 stays 0, which is PPO on the reward alone.

    Where both come to rest, the mean cost is ``limit`` and, with ``kl_coef`` β in the reward, the
    policy is ``π_ref · exp((r - λ c) / ((1 + λ) β))``; a limit that the reward alone keeps ends
    with λ near 0 and ``π_ref · exp(r / β)``. (β is not divided by 1 + λ, as in the paper.)

    One rollout changes λ by a factor of at most e, and λ is at most a million, so that a limit that
    no policy keeps ends in the cost alone and not in an overflow.

    >>> CostLimit(limit=0.2, rate=0.5)(1.0, cost=0.6)  # e^(0.5 · 1 · 0.4)
    1.2214027581601699
    """

    limit: float
    rate: float

    def __call__(self, multiplier: float, cost: float) -> float:
        """λ for the next rollout, from the last one's mean cost."""
        step = self.rate * multiplier * (cost - self.limit)
        return min(multiplier * math.exp(min(max(step, -1.0), 1.0)), _LARGEST)

    @staticmethod
    def score(rewards: Tensor, costs: Tensor, multiplier: float) -> Tensor:
        """``(r - λ c) / (1 + λ)`` of each answer (B,); the rewards themselves where λ is 0.

        >>> import torch
        >>> CostLimit.score(torch.tensor([2.0]), torch.tensor([1.0]), 3.0).tolist()
        [-0.25]
        """
        return rewards if multiplier == 0 else (rewards - multiplier * costs) / (1 + multiplier)


@dataclass(frozen=True, kw_only=True)
class CostOptions:
    """A limit on what answers cost on average.

    Options:
        cost: Name of the one of several rewards that is a cost, whose weight there is 0; none sets
            no limit.
        cost_limit: Mean cost of answers that the run is to stay below.
        cost_multiplier: Weight λ of the cost in the first rollout, later moved by the mean cost; 1
            unless set, and 0 leaves the cost out.
        cost_rate: Size of the step of ln λ after a rollout, for each unit of λ · (mean cost less
            cost_limit); 0.1 unless set.
    """

    cost: str | None = None
    cost_limit: float | None = None
    cost_multiplier: NonNegative | None = None
    cost_rate: Positive | None = None

    def check_costs(self) -> None:
        """Refuse options without those that they need.

        Raises:
            ValueError: one is set alone; the text names both.
        """
        for name in ("cost_limit", "cost_multiplier", "cost_rate"):
            if self.cost is None and getattr(self, name) is not None:
                raise ValueError(f"{name}: needs cost, the name of the reward that is a cost")
        if self.cost is not None and self.cost_limit is None:
            raise ValueError("cost: needs cost_limit, the mean cost that is allowed")

    @property
    def first_multiplier(self) -> float:
        """λ of the first rollout; 0 without a cost."""
        if self.cost is None:
            return 0.0
        return _START if self.cost_multiplier is None else self.cost_multiplier

    @property
    def limiter(self) -> CostLimit:
        """Sets λ after each rollout."""
        return CostLimit(self.cost_limit or 0.0, self.cost_rate or _RATE)
