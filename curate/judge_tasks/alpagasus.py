"""AlpaGasus rating: one dimension of an answer, such as its accuracy, from 0 to 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import Rating, answered

__all__ = ["AlpaGasus"]

_RUBRIC = """You rate the answer that an AI assistant gave to an instruction. Rate one thing: the \
{dimension} of the answer, from 0 (none) to 5 (highest). Halves such as 4.5 are allowed."""
_EXPLAINED = """Write the score, a number from 0 to 5, alone on the first line; then explain it in \
a few sentences, without bias."""
_ALONE = "Reply with the score only: a number from 0 to 5."


@dataclass(frozen=True)
class AlpaGasus:
    """``rating``: ``dimension`` of the answer, 0 to 5; Chen et al. 2023, arXiv:2307.08701.

    The paper keeps rows of 4.5 and more. Other code reads one character, so that 4.5 becomes 4, and
    rates what it cannot read -1; here 4.5 is 4.5, and what cannot be read has no rating.

    Options:
        dimension: What is rated, such as accuracy or helpfulness.
        explanation: Ask for an explanation after the score, as the paper does; without one an
            answer is a few tokens.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    dimension: str = "accuracy"
    explanation: bool = True
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 1
    adds: ClassVar[Mapping[str, type[pl.DataType]]] = {"rating": pl.Float64}

    @cached_property
    def _rating(self) -> Rating:
        prompt = Prompt(
            "alpagasus",
            _RUBRIC.format(dimension=self.dimension),
            _EXPLAINED if self.explanation else _ALONE,
            max_tokens=256 if self.explanation else 16,
            max_chars=self.max_chars,
        )
        return Rating(prompt, 0, 5, "first" if self.explanation else "alone")

    def questions(self, item: Item) -> Sequence[Question]:
        """One question."""
        return [self._rating.question(answered(item))]

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The rating."""
        return self._rating.score(answer, answered(item))

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """The rating."""
        return {"rating": parsed[0]}
