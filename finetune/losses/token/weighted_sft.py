"""Fine-tuning in which each row counts by its weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss, means_of

__all__ = ["WeightedSFT"]


@dataclass(frozen=True)
class WeightedSFT:
    """``Σ w · NLL / Σ w · length`` over the step's batch, or ``Σ w · (NLL / length) / Σ w``.

    w is the row's ``weight``, 0 or more. ``mean="token"`` and ``"row"`` as in ``nll``, which this
    is when all weights are the same; their scale does not matter. A batch whose weights are all 0
    teaches nothing: its loss is 0. Completions of one token land on the law of the data times w.

    >>> logps = AnswerLogps.of(policy=[-6, -4], length=[3, 1], weight=[1, 3])
    >>> WeightedSFT()(logps).loss.mean().item()  # (6 + 3 · 4) / (3 + 3 · 1)
    3.0
    >>> WeightedSFT(mean="row")(logps).loss.mean().item()  # (2 + 3 · 4) / 4
    3.5
    """

    mean: Literal["token", "row"] = "token"

    needs_reference: ClassVar = False
    needs_columns: ClassVar = ("weight",)
    couples_batch: ClassVar = True

    def shared(self, logps: AnswerLogps) -> Mapping[str, torch.Tensor]:
        """``weight``: of each row, times its length where tokens count."""
        weight = logps.column("weight")
        return {"weight": weight * logps.answers.length if self.mean == "token" else weight}

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""
        answers, weight = logps.answers, logps.column("weight")
        total = means_of(self, logps)["weight"]
        if bool((weight < 0).any()):
            raise ValueError(f"weight: expected 0 or more for each row, got {weight.min():g}")
        nll = -answers.policy if self.mean == "token" else -answers.mean
        loss = weight * nll / torch.where(total > 0, total, torch.ones_like(total))
        return AnswerLoss(loss, answers.mean.detach())
