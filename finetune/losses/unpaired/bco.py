"""BCO: a classifier of single completions, about the middle of the rewards of both classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss, means_of

__all__ = ["BCO"]


@dataclass(frozen=True)
class BCO:
    """``-log σ(s - δ)`` where desirable, ``-log σ(δ - s)`` where not, ``s = β log π/π_ref``.

    Jung et al. 2024, arXiv:2404.04656. ``shift="classes"`` is the paper's δ: the middle between the
    mean s of desirable and that of undesirable rows of the step's batch (of one of them where the
    other is absent). ``"pooled"`` is the mean of all, as TRL had it (with a running mean over
    steps, which is left out); they differ where classes are unbalanced. δ has no gradient.
    The paper's weights for a shift in prompts are not here. β 0.1 is TRL's.

    A completion that is desirable with weight a and undesirable with b is pulled to
    ``s = δ + log(a / b)``.

    >>> logps = AnswerLogps.of(policy=[-6, -9], ref=[-9, -8], label=[True, False])  # s 3 and -1
    >>> [round(x, 4) for x in BCO(beta=1)(logps).loss.tolist()]  # δ 1: -log σ(2), -log σ(2)
    [0.1269, 0.1269]
    """

    beta: float = 0.1
    shift: Literal["classes", "pooled"] = "classes"

    needs_reference: ClassVar = True
    needs_label: ClassVar = True
    couples_batch: ClassVar = True

    def shared(self, logps: AnswerLogps) -> Mapping[str, torch.Tensor]:
        """The rewards whose means make δ: of each class, or of all."""
        reward, good = self.beta * logps.answers.ratio, logps.good
        if self.shift == "pooled":
            return {"all": reward}
        return {"desirable": reward[good], "undesirable": reward[~good]}

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""
        reward = self.beta * logps.answers.ratio
        middle = torch.stack(list(means_of(self, logps).values())).mean()
        sign = torch.where(logps.good, 1.0, -1.0).to(reward.dtype)
        return AnswerLoss(-F.logsigmoid(sign * (reward - middle)), reward.detach())
