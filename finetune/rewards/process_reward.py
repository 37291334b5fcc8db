"""Reward of an answer by its steps, each scored by a process reward model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from siftune.curate.models.model_config import longest_input
from siftune.curate.models.precision import Precision

__all__ = ["ProcessReward"]


@dataclass(frozen=True)
class ProcessReward:
    """The least probability that a step is right, or the product of all; a step is a line.

    ``model`` is trained with ``siftune finetune reward --objective process``; each step is read
    after the ones before it, and its probability is ``σ(score)`` at its end. Lightman et al. 2023,
    arXiv:2305.20050, take the product over the steps, Wang et al. 2023, arXiv:2312.08935, the
    least. An answer without a step, or longer than the model takes, has no reward.

    Options:
        model: Folder of the process reward model.
        take: Of the steps' probabilities the least one (min), their product, or the last one.
        precision: Number format of all but its head: fp32, bf16, or bf16 where the processor
            multiplies it (auto).
    """

    model: str
    take: Literal["min", "product", "last"] = "min"
    precision: Precision = "auto"

    reads_extra: ClassVar = False

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """One number a completion, from 0 to 1."""
        import torch

        from siftune.finetune.data.process_rows import encode_steps
        from siftune.finetune.scoring.step_scores import step_scores

        model, tokenizer = self._parts
        steps = [[line for line in text.splitlines() if line.strip()] for text in completions]
        limit = longest_input(model.config, tokenizer)
        found: list[float | None] = []
        for one in encode_steps(tokenizer, [row["prompt"] for row in rows], steps, limit):
            if not one.ids or not one.ends:
                found.append(None)
                continue
            ids = torch.tensor([one.ids], device=model.device)
            ends = torch.tensor([one.ends], device=model.device)
            with torch.no_grad():
                scores = step_scores(model, ids, torch.ones_like(ids), ends)[0]
            found.append(self._taken(scores.double().sigmoid().tolist()))
        return found

    def _taken(self, shares: Sequence[float]) -> float:
        if self.take == "product":
            return math.prod(shares)
        return min(shares) if self.take == "min" else shares[-1]

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        from siftune.curate.core.errors import UsageError
        from siftune.finetune.models import loading
        from siftune.finetune.models.precision import frozen_dtype
        from siftune.finetune.scoring.step_scores import check_reads_forward

        if not loading.is_reward_model(self.model):
            raise UsageError(
                f"{self.model} gives no scores: train it with `siftune finetune reward --objective "
                "process`"
            )
        model = loading.placed(loading.load_reward(self.model, frozen_dtype(self.precision)))
        check_reads_forward(model)
        return model, loading.load_tokenizer(self.model)
