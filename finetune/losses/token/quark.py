"""Quark: fine-tuning on completions, each after the token of its reward bin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss, means_of
from siftune.finetune.losses.ranges import within

__all__ = ["Quark", "quantised"]


@dataclass(frozen=True)
class Quark:
    """``NLL + kl_weight · KL(π ‖ π_ref) - entropy_weight · H(π)``, a mean over the batch's tokens.

    Lu et al. 2022, arXiv:2205.13636, with the authors' code's weights 0.05 and 0.06; KL and entropy
    are over the whole vocabulary at each of the completion's tokens. The rows' ``reward`` puts
    them into ``bins`` of one size (`quantised`; 5 as in the code), and the prompt begins with the
    token of its completion's bin, for the policy and not for the reference, whose prompt is without
    it; at sampling it is the best bin's token. With one bin and no entropy term it is
    fine-tuning with a KL to the reference.

    On completions of one token, the completions of a bin having the law ρ, the optimum is where
    ``kl_weight · log π/π_ref + entropy_weight · log π - ρ / π`` is the same for all y.

    >>> from siftune.finetune.losses.types import Answers
    >>> one = torch.ones(1, 1)
    >>> tokens = {"policy": -2 * one, "kl": one, "entropy": one}
    >>> answer = Answers(torch.tensor([-2.0]), torch.ones(1), torch.tensor([-2.0]), tokens)
    >>> round(Quark()(AnswerLogps(answer)).loss.item(), 4)  # 2 + 0.05 - 0.06
    1.99
    """

    kl_weight: float = 0.05
    entropy_weight: float = 0.06
    bins: int = 5

    needs_reference: ClassVar = True
    needs_reward_tokens: ClassVar = True
    needs_columns: ClassVar = ("reward",)
    needs_tokens: ClassVar = ("kl", "entropy")
    couples_batch: ClassVar = True

    def __post_init__(self) -> None:
        within(self, kl_weight="[0, inf)", entropy_weight="[0, inf)", bins="[1, inf)")

    def shared(self, logps: AnswerLogps) -> Mapping[str, torch.Tensor]:
        """``length``: tokens of each completion."""
        return {"length": logps.answers.length.to(logps.answers.policy.dtype)}

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion: its tokens' sum by the batch's mean length."""
        answers = logps.answers
        cost = self.kl_weight * answers.token("kl") - self.entropy_weight * answers.token("entropy")
        total = (cost * answers.mask).sum(-1) - answers.policy
        return AnswerLoss(total / means_of(self, logps)["length"], answers.mean.detach())


def quantised(rewards: torch.Tensor, bins: int = 5) -> torch.Tensor:
    """The bin of each reward, ``(N,)`` to ``(N,)``: 0 the best, all of one size.

    What is left over goes to the worst bin, as in the authors' code; equal rewards stay in the
    order in which they came.

    >>> quantised(torch.tensor([0.1, 0.9, 0.5, 0.7, 0.3]), bins=2)
    tensor([1, 0, 1, 0, 1])
    """
    if not 1 <= bins <= len(rewards):
        raise ValueError(f"bins: expected 1 to {len(rewards)}, as many as rewards, got {bins}")
    rank = rewards.argsort(descending=True, stable=True).argsort()
    return (rank // (len(rewards) // bins)).clamp(max=bins - 1)
