"""f-DPO: DPO with another divergence than reverse KL to the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["FDPO"]


@dataclass(frozen=True)
class FDPO:
    """``-log σ(β f'(ratio_w) - β f'(ratio_l))``, ratio = π / π_ref, f the divergence's generator.

    Wang et al. 2023, arXiv:2309.16240, table 1. ``forward_kl``: f'(u) = -1/u; ``js``:
    log(2u / (1 + u)); ``alpha``: (1 - u^-α) / α; ``reverse_kl``: log u, which is DPO. With
    Bradley–Terry labels the optimum is ``π = π_ref · (f')⁻¹((r - λ) / β)``, λ being what makes it
    sum to 1.
    ``alpha`` is the paper's, in (0, 1): towards 0 it is reverse KL, at 1 forward KL; TRL's
    ``f_alpha_divergence_coef`` is 1 - α. The paper's β is DPO's; α 0.5 is the middle. Log-ratios
    below -20 are carried on as straight lines where u^-α would overflow.

    Options:
        alpha: Order of the divergence ``alpha``, between 0 (reverse KL) and 1 (forward KL).

    >>> pair = PairLogps.of(policy=(0, -2), ref=(0, -2))  # both ratios 1
    >>> round(FDPO(divergence="js")(pair).loss.item(), 4)  # -log σ(0)
    0.6931
    >>> pair = PairLogps.of(policy=(-1, -2), ref=(-1, -1))  # u = 1 and 1/e: -1 + e
    >>> round(FDPO(divergence="forward_kl", beta=1)(pair).loss.item(), 4)  # -log σ(1.7183)
    0.165
    """

    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "forward_kl"
    beta: float = 0.1
    alpha: float = 0.5

    needs_reference: ClassVar = True

    def __post_init__(self) -> None:
        within(self, alpha="(0, 1]")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen = self.beta * self._slope(logps.chosen.ratio)
        rejected = self.beta * self._slope(logps.rejected.ratio)
        return PairLoss(-F.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())

    def _slope(self, ratio: torch.Tensor) -> torch.Tensor:
        """The slope f' at ``exp(ratio)``, up to a constant that the two completions share."""
        if self.divergence == "reverse_kl":
            return ratio
        if self.divergence == "js":
            return math.log(2) + F.logsigmoid(ratio)
        alpha = 1.0 if self.divergence == "forward_kl" else self.alpha
        held = ratio.clamp(min=-_STEEPEST)
        return (1 - torch.exp(-alpha * held) * (1 + alpha * (held - ratio))) / alpha


_STEEPEST = 20.0
