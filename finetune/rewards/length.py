"""Length reward: how near the completion is to a target number of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from siftune.curate.core.ranges import Count

__all__ = ["Length"]


@dataclass(frozen=True)
class Length:
    """``-|words - target| / target``: 0 at ``target`` words, -1 at none and at twice as many.

    Options:
        target: Number of words at which the reward is highest, 0.

    >>> Length(target=4)(["?", "?"], ["one two", "one two three four"], [{}, {}])
    [-0.5, 0.0]
    """

    target: Count

    reads_extra: ClassVar = False

    def __post_init__(self) -> None:
        """Refuse a target that no completion could have."""
        if self.target < 1:
            raise ValueError(f"target: expected at least 1 word, got {self.target}")

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """At most 0."""
        return [0 - abs(len(text.split()) - self.target) / self.target for text in completions]
