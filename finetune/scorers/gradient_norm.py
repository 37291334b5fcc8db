"""Length of the gradient of a row's loss by all weights of a language model."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import polars as pl
import torch
from torch import Tensor

from siftune.curate.core.progress import report_progress
from siftune.curate.lm.answer_model import AnswerModel
from siftune.curate.lm.answer_tokens import Template
from siftune.curate.text.language_model import TokenRow
from siftune.finetune.influence.adapted_model import logps_of
from siftune.finetune.models import loading
from siftune.finetune.scoring.logps import check_head

__all__ = ["GradientNorm"]


@dataclass(frozen=True)
class GradientNorm(AnswerModel):
    """``gradient_norm = |∇_θ L(y | x; θ)|``, L the mean loss of the answer's tokens, θ all weights.

    The gradient norm score of arXiv:2107.07075, of a language model. arXiv:2604.17215 drops the
    rows with the largest gradients in safety-sensitive training: they pull a model back to what it
    was before alignment (`top_fraction` with ``descending: false``, or `threshold` with ``max``).
    The mean over more tokens varies less, so short answers have the largest norms: compare rows of
    like length, or ``by: gradient_norm * length_tokens``.

    Each row runs alone, forwards and backwards, and no gradient is kept: memory is that of the
    weights and of the largest single gradient. A row without a prompt and an answer, or longer than
    the model's window, is null. The norm has about three digits in bf16.

    Not for ranking answers by quality: a wrong answer and a rare, good one both have a large one.
    """

    template: Template = "chat"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"gradient_norm": pl.Float64}
    cost: ClassVar = "a forward and a backward pass a row, by all weights"

    @property
    def forward_pass(self) -> tuple[Any, ...]:
        """No other scorer runs its passes."""
        return ()

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation's last assistant turn."""
        found = []
        for at, row in enumerate(self._tokens.after_prompt(batch["messages"])):
            found.append(None if row is None else self._norm(row))
            report_progress(at + 1, batch.height, "rows")
        return pl.DataFrame({"gradient_norm": found}, schema=self.adds)

    @cached_property
    def _norm(self) -> _Norm:
        narrow = self._lm.number_format == "bf16"
        return _Norm(loading.load_causal(self.model, "bfloat16" if narrow else "float32"))

    def __getstate__(self) -> dict[str, Any]:
        """The options alone: a process that reads them loads its own model."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


class _Norm:
    """The norm of a row's gradient; of each weight the square is added as soon as it is known."""

    def __init__(self, model: Any) -> None:
        self.model = loading.placed(model)
        check_head(self.model, torch.zeros((1, 4), dtype=torch.long, device=model.device))
        for weight in self.model.parameters():
            weight.requires_grad_(True)
            weight.register_post_accumulate_grad_hook(self._take)

    def __call__(self, row: TokenRow) -> float | None:
        """The norm, or None where it is not finite."""
        self.total = 0.0
        (-logps_of(self.model, row).mean()).backward()
        return math.sqrt(self.total) if math.isfinite(self.total) else None

    def _take(self, weight: Tensor) -> None:
        assert weight.grad is not None
        self.total += float(weight.grad.double().square().sum())
        weight.grad = None
