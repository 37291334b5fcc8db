"""Training loop of classifiers on rated texts: squared error, logistic loss or cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer

from siftune.finetune.training.reward_steps import RewardSteps

__all__ = ["Collator", "RatingLoop", "RatingLoss"]

RatingLoss: TypeAlias = Literal["squared", "logistic", "classes"]


@dataclass(frozen=True)
class Collator:
    """Texts padded on the right, each with its target: a number, or the number of its class."""

    pad: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch of these rows."""
        texts = [torch.tensor(row["input_ids"]) for row in rows]
        seen = [torch.ones_like(text) for text in texts]
        return {
            "input_ids": pad_sequence(texts, batch_first=True, padding_value=self.pad),
            "attention_mask": pad_sequence(seen, batch_first=True),
            "target": torch.tensor([row["target"] for row in rows]),
        }


class _Loss(Trainer):
    """Mean loss of a batch of rated texts."""

    loss: RatingLoss = "squared"

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of ``inputs``."""
        seen = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        outputs, target = model(**seen).logits.float(), inputs["target"]
        if self.loss == "classes":
            return F.cross_entropy(outputs, target)
        if self.loss == "logistic":
            return F.binary_cross_entropy_with_logits(outputs[:, 0], target)
        return F.mse_loss(outputs[:, 0], target)


class RatingLoop(RewardSteps, _Loss):
    """Steps that stop at NaN, in parts of so many tokens."""

    sides = 1

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._metrics = {"train": {}}

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        columns.append("target")  # else it would be taken out of the rows
