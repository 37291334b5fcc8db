"""NPO: unlearning by half a DPO, with fine-tuning on what is to be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss
from siftune.finetune.losses.ranges import within

__all__ = ["NPO"]


@dataclass(frozen=True)
class NPO:
    """``-(2/β) log σ(-β l)`` where undesirable, ``retain_weight`` · mean NLL where desirable.

    Zhang et al. 2024, arXiv:2404.05868, ``l = log π/π_ref`` summed over tokens as in
    the authors' code (several ports take a token mean). Undesirable rows are the forget set; the
    others are the retain set. ``retain_weight`` 0 is plain NPO, 1 the authors' gradient difference
    (whose mean is over the retain set's tokens where this one is over rows). Their two means are
    over as many forget as retain rows; the mean over all rows is half of their sum. β 0.1.

    As β → 0 the gradient tends to that of gradient ascent; for all β it is that times
    ``2 σ(β l)``, which dies out as a completion is forgotten. Alone it has no optimum; with F the
    weight of forgetting f and v_j that of keeping j, all of one token, ``π_j = v_j / (Σv - g)`` and
    ``π_f = (v_f - g) / (Σv - g)`` with ``g = 2F σ(β l_f)``, and π_f = 0 where v_f is too small.

    >>> logps = AnswerLogps.of(policy=[-6, -9], ref=[-5, -7], length=[2, 3], label=[True, False])
    >>> [round(x, 4) for x in NPO(beta=1, retain_weight=1)(logps).loss.tolist()]  # 6/2, -2 log σ(2)
    [3.0, 0.2539]
    """

    beta: float = 0.1
    retain_weight: float = 0.0

    needs_reference: ClassVar = True
    needs_label: ClassVar = True

    def __post_init__(self) -> None:
        within(self, retain_weight="[0, inf)")

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""
        reward = self.beta * logps.answers.ratio
        forget = -2 / self.beta * F.logsigmoid(-reward)
        retain = -self.retain_weight * logps.answers.mean
        return AnswerLoss(torch.where(logps.good, retain, forget), reward.detach())
