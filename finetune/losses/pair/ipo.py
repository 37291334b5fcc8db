"""Identity Preference Optimization: pull the gap to a fixed size instead of ever further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["IPO"]


@dataclass(frozen=True)
class IPO:
    """``(Δ - 1 / (2β))²``, β being the paper's τ.

    Azar et al. 2023, arXiv:2310.12036, equation 17. ``ratios="mean"`` divides each log-ratio by its
    completion's tokens, as TRL does (the paper's results are so, according to its authors);
    ``"sum"`` does not, as the paper's text, OpenRLHF and NeMo-Aligner. They agree when each
    completion is one token. β 0.1 is TRL's. The optimum of "sum" is the least-squares solution of
    ``Δ = (p - ½) / β``, p the chance that chosen beats rejected, averaged over the pairs.

    Options:
        beta: Strength of the regularisation, τ in the paper: the gap is pulled to 1 / (2β).

    >>> pair = PairLogps.of(policy=(-6, -9), ref=(-5, -7), length=(2, 4))
    >>> IPO(beta=0.25, ratios="sum")(pair).loss.item()  # (-1 + 2 - 2)²
    1.0
    >>> IPO(beta=0.25)(pair).loss.item()  # (-1/2 + 2/4 - 2)²
    4.0
    """

    beta: float = 0.1
    ratios: Literal["mean", "sum"] = "mean"

    needs_reference: ClassVar = True

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        chosen = logps.policy_chosen - logps.ref_chosen
        rejected = logps.policy_rejected - logps.ref_rejected
        rewards = self.beta * chosen.detach(), self.beta * rejected.detach()
        if self.ratios == "mean":
            chosen, rejected = chosen / logps.chosen.length, rejected / logps.rejected.length
        loss = (chosen - rejected - 1 / (2 * self.beta)) ** 2
        return PairLoss(loss, *rewards)
