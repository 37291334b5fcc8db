"""Nash-MD: play against a mixture of oneself and the reference, towards the regularised Nash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss

__all__ = ["NashMD"]


@dataclass(frozen=True)
class NashMD:
    """``-(p - ½ - β l) log π(y)``, no gradient through the bracket; ``l = log π/π_ref``.

    Munos et al. 2023, arXiv:2312.00886, section 7: REINFORCE on
    ``P(π ≻ opponent) - β KL(π ‖ π_ref)`` for a whole completion. That β (the paper's τ) was 0.008
    in its summarisation runs is assumed; TRL's was 0.1, and its KL term credits each token with its
    own log-ratio only, which agrees where completions are one token.

    The sampler must give, at every step: y from the policy being trained, y' from the opponent
    ``∝ π^(1-m) · π_ref^m`` (the paper's mixture; m 0.125 there is assumed), and p, the chance
    that y beats y', as the row's ``win_probability``. On rows sampled from anything else the
    gradient is not that of the game. The value of the loss means nothing.

    It rests at ``π ∝ π_ref · exp(P(y ≻ opponent) / β)``: for m = 0 the Nash equilibrium of the
    regularised game, for a small m near it.

    Options:
        beta: Strength of the KL regularisation towards the reference, τ in the paper.

    >>> logps = AnswerLogps.of(policy=-6, ref=-5, win_probability=0.75)
    >>> NashMD(beta=0.25)(logps).loss.item()  # 6 · (0.25 + 0.25)
    3.0
    """

    beta: float = 0.008

    needs_reference: ClassVar = True
    needs_columns: ClassVar = ("win_probability",)
    weighs_by_policy: ClassVar = True
    on_policy: ClassVar = True

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion: a gradient in disguise."""
        reward = self.beta * logps.answers.ratio.detach()
        gain = logps.column("win_probability") - 0.5 - reward
        return AnswerLoss(-gain * logps.answers.policy, reward)
