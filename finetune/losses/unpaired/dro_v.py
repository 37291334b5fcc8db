"""DRO-V: rewards of single completions regressed on a policy and a value head together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss

__all__ = ["DROV"]


@dataclass(frozen=True)
class DROV:
    """``½ (r - V - β l)²``, ``l = log π/π_ref``, r the row's ``reward``, V learned beside π.

    Richemond et al. 2024, arXiv:2405.19107; β is the paper's τ, 1 there. Its algorithm 1 takes the
    two gradients one by one, by a public port of it (LLNL/protein_tune_rl), which can also scale
    the policy's by τ; that the paper does so is assumed. This is the joint square, of the same
    optimum: ``π* ∝ π_ref · exp(r / β)`` and ``V* = β log E_ref exp(r / β)``, whatever the law of
    the completions, if it leaves none out. In training V is a linear layer on the policy's state at
    the prompt's last token, which gets no gradient from it; it learns at a rate of its own
    (``value_lr``) and is kept in the model folder as ``value_head.safetensors``.

    >>> logps = AnswerLogps.of(policy=-6, ref=-5, value=0.5, reward=2)
    >>> DROV(beta=1)(logps).loss.item()  # (2 - 0.5 + 1)² / 2
    3.125
    """

    beta: float = 1.0

    needs_reference: ClassVar = True
    needs_columns: ClassVar = ("reward",)
    needs_value: ClassVar = True

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion, of the policy and the value head."""
        reward = self.beta * logps.answers.ratio
        missing = logps.column("reward") - logps.prompt_value - reward
        return AnswerLoss(missing**2 / 2, reward.detach())
