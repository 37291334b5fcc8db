"""Log-ratio reward: how much likelier a completion is under a model than under its reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from siftune.curate.core.ranges import Count, Positive
from siftune.curate.models.precision import Precision
from siftune.finetune.models.loading import model_hash
from siftune.finetune.scoring.completion_logps import CompletionLogps

__all__ = ["LogRatio"]


@dataclass(frozen=True)
class LogRatio:
    """``β (log π(y | x) - log π_ref(y | x))``; Rafailov et al. 2023, arXiv:2305.18290, eq. 5.

    The implicit reward of a model trained by DPO from ``reference`` with ``beta``, up to a term of
    the prompt alone, which no comparison of answers to one prompt sees. Log-probabilities are sums
    over the completion with its end of turn, each in the model's own tokenizer.

    Options:
        model: Folder of the model that was trained on preferences.
        reference: Folder of the model that it was trained from.
        beta: The β of that training.
        batch_size: Number of texts that are scored at once.
        precision: Number format of the weights of both.
    """

    model: str
    reference: str
    beta: Positive = 0.1
    batch_size: Count = 16
    precision: Precision = "auto"

    reads_extra: ClassVar = False

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Nats times β; None for what does not fit one of the models."""
        both = (logps(completions, rows) for logps in self._logps)
        return [
            None if own is None or base is None else self.beta * (own[0] - base[0])
            for own, base in zip(*both, strict=True)
        ]

    def load(self) -> None:
        """Load both models now.

        Raises:
            UsageError: one cannot be used.
        """
        for logps in self._logps:
            _ = logps.parts

    def describe(self) -> dict[str, Any]:
        """The content of both models, for the key of a training."""
        return {"model": model_hash(self.model), "reference": model_hash(self.reference)}

    @cached_property
    def _logps(self) -> tuple[CompletionLogps, CompletionLogps]:
        shared = (self.batch_size, self.precision)
        return CompletionLogps(self.model, *shared), CompletionLogps(self.reference, *shared)
