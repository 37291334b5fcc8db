"""A causal model under a LoRA adapter: the loss of one row, and its gradient as one vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from siftune.curate.files.atomic import digest_of
from siftune.curate.text.language_model import TokenRow
from siftune.finetune.losses.pair.dpo import DPO
from siftune.finetune.losses.types import PairLogps
from siftune.finetune.models import loading
from siftune.finetune.models.lora import with_adapter
from siftune.finetune.scoring.logps import check_head, score_answers
from siftune.finetune.scoring.reference import without_dropout

__all__ = ["AdaptedModel", "Row", "flat_gradient", "logps_of", "row_key", "rows_digest"]

Row: TypeAlias = tuple[TokenRow, ...]
"""One answer after its prompt, or the chosen and the rejected answer of a pair."""


def row_key(row: Row) -> bytes:
    """Hash of what the model is given of a row."""
    return b"".join(each.key for each in row)


def rows_digest(rows: Iterable[Row], *more: str) -> str:
    """Hash of rows in their order, and of texts."""
    return digest_of([row_key(row).hex() for row in rows] + list(more))


def logps_of(model: Any, row: TokenRow) -> Tensor:
    """Log-probabilities of the scored tokens, in order; the row runs alone, without padding."""
    ids = torch.tensor([row.ids], device=model.device)
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "answer_mask": torch.tensor([row.scored], device=model.device).long(),
    }
    return score_answers(model, batch)["policy"][0]


def flat_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The gradient of a loss as one float32 vector; zero for a parameter that it does not use."""
    parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten().float() for part in parts])


@dataclass
class AdaptedModel:
    """The model, its adapter's weights as one vector of D numbers, and losses of rows.

    Every row runs alone: its gradient depends on no other row, nor on padding. The base is frozen,
    in the number format ``dtype``; the adapter is in float32, without dropout. The loss of one
    answer is its mean loss a token; that of a pair is DPO's, whose reference is the model with the
    adapter off (``beta`` is its β).
    """

    model: Any
    parameters: list[Tensor]
    beta: float = 0.1
    _of_reference: dict[bytes, float] = field(default_factory=dict)

    @classmethod
    def load(
        cls, model: str, dtype: loading.DType, rank: int, alpha: float, seed: int, beta: float = 0.1
    ) -> AdaptedModel:
        """The model of a folder under a new adapter on every linear layer but the head.

        Raises:
            UsageError: it cannot be loaded, or its logits are not those of its output embedding.
        """
        base: Any = loading.placed(loading.load_causal(model, dtype))
        check_head(base, torch.zeros((1, 4), dtype=torch.long, device=base.device))
        without_dropout(base)
        adapted = with_adapter(base, rank, alpha, seed)
        adapted.eval()
        trained = [weight for weight in adapted.parameters() if weight.requires_grad]
        return cls(adapted, trained, beta)

    @property
    def size(self) -> int:
        """Number of weights, D."""
        return sum(weight.numel() for weight in self.parameters)

    @property
    def weights(self) -> Tensor:
        """The adapter's weights ``(D,)``, a copy."""
        return torch.cat([weight.detach().flatten() for weight in self.parameters])

    @weights.setter
    def weights(self, vector: Tensor) -> None:
        parts = vector.split([weight.numel() for weight in self.parameters])
        with torch.no_grad():
            for weight, part in zip(self.parameters, parts, strict=True):
                weight.copy_(part.view_as(weight))

    @contextmanager
    def adapter_off(self) -> Iterator[None]:
        """The model without its adapter, in the block."""
        with self.model.disable_adapter():
            yield

    def loss(self, row: Row) -> Tensor:
        """The loss of one row, with its gradient to the adapter."""
        causal = self.model.get_base_model()
        if len(row) == 1:
            return -logps_of(causal, row[0]).mean()
        policy = [logps_of(causal, side).sum().double().view(1) for side in row]
        reference = [policy[0].new_tensor([self._reference(side)]) for side in row]
        pair = PairLogps.of(policy=(policy[0], policy[1]), ref=(reference[0], reference[1]))
        return DPO(self.beta)(pair).loss[0]

    def losses(self, rows: Sequence[Row]) -> list[float]:
        """The loss of each row, without gradients."""
        with torch.no_grad():
            return [float(self.loss(row)) for row in rows]

    def gradient(self, row: Row) -> Tensor:
        """The gradient of a row's loss by the adapter's weights, ``(D,)``."""
        return flat_gradient(self.loss(row), self.parameters)

    def _reference(self, side: TokenRow) -> float:
        if side.key not in self._of_reference:
            with torch.no_grad(), self.adapter_off():
                found = logps_of(self.model.get_base_model(), side).sum()
            self._of_reference[side.key] = float(found)
        return self._of_reference[side.key]
