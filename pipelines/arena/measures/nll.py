"""Held-out negative log-likelihood: nats a token of answers that people wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.pipelines.arena.measures.types import Asked, Better, Values

__all__ = ["NLL"]


@dataclass(frozen=True)
class NLL:
    """``-Σ log p(token | prompt, tokens before) / tokens`` of the known answer, over all rows.

    The end of the answer is a token of it. Rows are weighed by their tokens, so the mean is that
    of all tokens of the set, as in perplexity; it needs no generation and no judge, and so has the
    smallest error of all measures. An answer that does not fit into the model's window, or that is
    not known, has no value.

    Not for style: a model that writes better than the reference has a higher loss on it. Measure
    on answers of people, not of the model that wrote the training rows.
    """

    better: ClassVar[Better] = "lower"
    kinds: ClassVar = ("conversation", "preference")

    def __call__(self, asked: Asked) -> Values:
        """Mean loss of each row's answer, weighed by its tokens."""
        from siftune.finetune.data.training_rows import to_prompts
        from siftune.finetune.evaluation.generation_eval import GenerationEval

        rows = tuple(to_prompts(asked.table))
        found = GenerationEval(rows, asked.tokenizer, batch_size=asked.batch_size).losses(
            asked.model
        )
        values = [found[at]["loss"] if at in found else None for at in range(len(rows))]
        weights = [found[at]["loss_tokens"] if at in found else 0.0 for at in range(len(rows))]
        return Values(values, weights)
