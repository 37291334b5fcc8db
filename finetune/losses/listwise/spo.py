"""SPO: self-play in which a sample's reward is its win rate among the samples of its prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.finetune.losses.list_types import ListLogps, ListLoss

__all__ = ["SPO"]


@dataclass(frozen=True)
class SPO:
    """``-(r - ½ - β l) log π(y)``, r the win rate, no gradient through the bracket; mean of a list.

    Swamy et al. 2024, arXiv:2401.04056: the reward is ``mean_j P(y_i ≻ y_j)`` over one's own
    samples, for any policy optimiser; here it is REINFORCE with ½, the mean win rate of a list, as
    its baseline and ``β KL(π ‖ π_ref)`` as its price, ``l = log π/π_ref``. The sampler must give K
    completions of the policy being trained and their ``win_rate``
    (`list_types.win_rates`). The value of the loss has no meaning. β 0 is the
    paper's; 0.1 here, since without it the policy cycles and only its mean converges.

    Its fixed point is ``π ∝ π_ref · exp(P(y ≻ π) / β)``, the Nash equilibrium of the regularised
    game; with that as the next reference, repeatedly, it converges to one of the game itself.

    >>> logps = ListLogps.of(policy=(-4, -4), ref=(-4, -4), win_rate=(0.75, 0.25))
    >>> SPO()(logps).loss.item() == 0  # (0.25 · 4 - 0.25 · 4) / 2
    True
    """

    beta: float = 0.1

    needs_reference: ClassVar = True
    needs_columns: ClassVar = ("win_rate",)
    weighs_by_policy: ClassVar = True
    on_policy: ClassVar = True

    def __call__(self, logps: ListLogps) -> ListLoss:
        """Loss of each list: a gradient in disguise."""
        answers = logps.answers
        reward = self.beta * answers.ratio.detach()
        gain = (logps.column("win_rate") - 0.5 - reward) * logps.mask
        loss = -(gain * answers.policy).sum(-1) / logps.mask.sum(-1)
        return ListLoss(loss, reward)
