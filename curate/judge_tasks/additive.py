"""Additive rating of Self-Rewarding: five points, each for one further quality of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count, NonNegative
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import Rating, answered

__all__ = ["Additive"]

_RUBRIC = """You review the response of an AI assistant to a user's question, and add up points. \
Each point needs those before it:
- 1 point: the response is relevant and has some information on the question, even if incomplete.
- 2 points: it covers a large part of the question, without resolving it.
- 3 points: it answers the basic elements of the question in a useful way.
- 4 points: it is written as an AI assistant's answer, direct, complete, well organised and \
helpful, with little to improve.
- 5 points: it is tailored to the question without a superfluous word, and is expert."""
_REPLY = """First justify the total in at most 100 words; then end with a last line of the form \
"Score: k", where k is the number of points, 0 to 5."""
_ALONE = "Reply with the number of points only: one digit from 0 to 5."


@dataclass(frozen=True)
class Additive:
    """``rating``: number of points, 0 to 5; Yuan et al. 2024, arXiv:2401.10020.

    The paper samples three judgements and averages them (``samples``, ``temperature``). Scripts
    that search the text for ``Score:`` take the first one, which may be quoted from the response;
    here the score is the last line, and a contradicting one is an error.

    Options:
        rationale: Ask for a justification before the score, as the paper does; without one an
            answer is a few tokens.
        samples: Judgements of each response, whose mean is the rating.
        temperature: Temperature at which they are sampled.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    rationale: bool = True
    samples: Count = 1
    temperature: NonNegative = 0.0
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 1
    adds: ClassVar[Mapping[str, type[pl.DataType]]] = {"rating": pl.Float64}

    @cached_property
    def _rating(self) -> Rating:
        prompt = Prompt(
            "additive",
            _RUBRIC,
            _REPLY if self.rationale else _ALONE,
            max_tokens=300 if self.rationale else 16,
            temperature=self.temperature,
            max_chars=self.max_chars,
        )
        return Rating(prompt, 0, 5, "last" if self.rationale else "alone", whole=True)

    def questions(self, item: Item) -> Sequence[Question]:
        """One question a sample."""
        sections = answered(item)
        return [self._rating.question(sections, sample) for sample in range(self.samples)]

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The points of one sample."""
        return self._rating.score(answer, answered(item))

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """The mean of the samples."""
        return {"rating": fmean(parsed)}
