"""Repetition: a penalty for n-grams of words that come again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from siftune.curate.core.ranges import Count, NonNegative, check_ranges

__all__ = ["Repetition"]


@dataclass(frozen=True)
class Repetition:
    """``-scale`` times the share of n-grams that repeat an earlier one: 0 for none, never above.

    ``scale · (distinct / n-grams - 1)``, as the N-gram repetition penalty of Demystifying Long
    Chain-of-Thought Reasoning, arXiv:2502.03373, section 4.5 and the open reproduction Open-R1 have
    it. Words are what lies between white space, without regard to case. A completion of fewer than
    ``ngram`` words, an empty one too, repeats nothing and scores 0: give short answers a reward of
    their length. A completion without white space, such as Chinese, is one word.

    Options:
        ngram: Number of words of a group.
        scale: Largest penalty, that of one word repeated without end.

    >>> Repetition(ngram=2)(["?"] * 2, ["a b a b a", "a b c"], [{}] * 2)  # ab ba ab ba: 2 of 4
    [-0.5, 0.0]
    """

    ngram: Count = 3
    scale: NonNegative = 1.0

    reads_extra: ClassVar = False

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_ranges(self)

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Between ``-scale`` and 0."""
        return [self.scale * self._share(completion) for completion in completions]

    def _share(self, said: str) -> float:
        words = said.casefold().split()
        groups = list(zip(*(words[at:] for at in range(self.ngram)), strict=False))
        return len(set(groups)) / len(groups) - 1 if groups else 0.0
