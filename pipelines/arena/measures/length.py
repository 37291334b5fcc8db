"""Length of the answers in tokens: what longer answers alone explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.pipelines.arena.measures.types import Asked, Better, Values

__all__ = ["Length"]


@dataclass(frozen=True)
class Length:
    """Tokens of each generated answer, at most ``max_new_tokens`` of the recipe.

    It is described, not good or bad: rewards and judges prefer long answers, so a difference of
    rewards is read beside that of lengths.

    Not for comparing models with different tokenizers.
    """

    better: ClassVar[Better] = "neither"
    kinds: ClassVar = ("conversation", "preference", "text")

    def __call__(self, asked: Asked) -> Values:
        """Tokens, or None where nothing could be generated."""
        return Values(
            [None if one["completion"] is None else one["tokens"] for one in asked.answers]
        )
