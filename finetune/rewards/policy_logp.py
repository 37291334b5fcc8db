"""Log-probability reward: the mean log-probability of a completion's tokens under a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from siftune.curate.core.ranges import Count
from siftune.curate.models.precision import Precision
from siftune.finetune.models.loading import model_hash
from siftune.finetune.scoring.completion_logps import CompletionLogps

__all__ = ["PolicyLogp"]


@dataclass(frozen=True)
class PolicyLogp:
    """``log π(y | x) / |y|`` in nats a token; Yuan et al. 2023, RRHF, arXiv:2304.05302, eq. 1.

    What RRHF ranks answers by. ``|y|`` counts the tokens of the completion with its end of turn, in
    the model's own tokenizer; padding is in neither sum. Fluent, generic text has a high one: as
    the only reward it teaches repetition.

    Options:
        model: Folder of the causal model.
        batch_size: Number of texts that are scored at once.
        precision: Number format of its weights.
    """

    model: str
    batch_size: Count = 16
    precision: Precision = "auto"

    reads_extra: ClassVar = False

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """At most 0; None for what does not fit the model."""
        return [one and one[0] / one[1] for one in self._logps(completions, rows)]

    def load(self) -> None:
        """Load the model now.

        Raises:
            UsageError: it cannot be used.
        """
        _ = self._logps.parts

    def describe(self) -> dict[str, Any]:
        """The content of the model, for the key of a training."""
        return {"model": model_hash(self.model)}

    @cached_property
    def _logps(self) -> CompletionLogps:
        return CompletionLogps(self.model, self.batch_size, self.precision)
