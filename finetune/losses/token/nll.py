"""Fine-tuning on completions: their mean NLL, over tokens or over rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss, means_of

__all__ = ["NLL"]


@dataclass(frozen=True)
class NLL:
    """``-log π(y)``, a mean over the tokens of the step's batch or over its rows.

    ``mean="token"`` counts every token the same, so long completions count for more, as
    `transformers` and TRL do: a row's loss is its NLL by the batch's mean length, so the mean over
    rows is NLL over tokens, however the batch is split. ``"row"`` counts every completion the same.
    They agree where lengths do. Both land on the law of the data when completions are one token.
    `trainers.sft` is the trainer for that alone; this is it among the objectives, with
    their metrics and with others beside it.

    >>> logps = AnswerLogps.of(policy=[-6, -2], length=[3, 1])
    >>> NLL()(logps).loss.mean().item(), NLL(mean="row")(logps).loss.mean().item()
    (2.0, 2.0)
    >>> logps = AnswerLogps.of(policy=[-6, -4], length=[3, 1])
    >>> NLL()(logps).loss.mean().item(), NLL(mean="row")(logps).loss.mean().item()
    (2.5, 3.0)
    """

    mean: Literal["token", "row"] = "token"

    needs_reference: ClassVar = False
    couples_batch: ClassVar = True

    def shared(self, logps: AnswerLogps) -> Mapping[str, torch.Tensor]:
        """``length``: tokens of each completion."""
        return {"length": logps.answers.length.to(logps.answers.policy.dtype)}

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""
        answers = logps.answers
        length = means_of(self, logps)["length"] if self.mean == "token" else answers.length
        return AnswerLoss(-answers.policy / length, answers.mean.detach())
