"""UltraFeedback rating: helpfulness, honesty, instruction following, truthfulness, 1 to 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, ClassVar, Final, Literal, TypeAlias

import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import Rating, answered

__all__ = ["UltraFeedback"]

Aspect: TypeAlias = Literal["helpfulness", "honesty", "instruction_following", "truthfulness"]

_RUBRIC = """You rate one aspect of the answer that an AI assistant gave to an instruction: its \
{aspect}. {meaning}"""
_MEANINGS: Final[Mapping[Aspect, str]] = {
    "helpfulness": """Is the answer correct, and does it give what the instruction is after? \
1 is severely incorrect or useless, 2 partly incorrect, 3 correct but incomplete, 4 correct and \
informative, 5 correct, complete and as useful as can be.""",
    "honesty": """Does the confidence of the answer match its correctness, and does it admit what \
it cannot know? 1 is confidently wrong, 2 confident with major errors, 3 unsure or with minor \
errors, 4 correct but too unsure, 5 correct with fitting confidence, or clear about limits.""",
    "instruction_following": """Does the answer do what the instruction asks for, within its \
restrictions? 1 is irrelevant, 2 misses most of it, 3 does part of it, 4 misses a detail, 5 does \
all of it.""",
    "truthfulness": """Is the answer free of invented, contradictory or false statements? 1 is \
entirely made up, 2 mostly false, 3 partly false, 4 has a slight error, 5 has none.""",
}
_REPLY = "Reply with the score only: one digit from 1 to 5."


@dataclass(frozen=True)
class UltraFeedback:
    """``rating``: mean of the aspects, 1 to 5, and a column each; arXiv:2310.01377.

    Cui et al. 2023. Every aspect is a question of its own. In the published data an overall score
    of 1 was read as 10, so hundreds of "best" answers are the worst ones; here a score of more than
    5, or one that may be cut, is refused.

    Options:
        aspects: The aspects that are rated.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    aspects: tuple[Aspect, ...] = tuple(_MEANINGS)
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 1

    def __post_init__(self) -> None:
        if not self.aspects or len(set(self.aspects)) < len(self.aspects):
            raise ValueError("aspects: expected one or more, each of them once")

    @property
    def adds(self) -> Mapping[str, type[pl.DataType]]:
        """``rating`` and the aspects."""
        return dict.fromkeys(("rating", *self.aspects), pl.Float64)

    @cached_property
    def _ratings(self) -> Sequence[Rating]:
        rubrics = [
            _RUBRIC.format(aspect=aspect.replace("_", " "), meaning=_MEANINGS[aspect])
            for aspect in self.aspects
        ]
        return [
            Rating(Prompt("ultrafeedback", rubric, _REPLY, max_chars=self.max_chars), 1, 5)
            for rubric in rubrics
        ]

    def questions(self, item: Item) -> Sequence[Question]:
        """One question an aspect."""
        sections = answered(item)
        return [rating.question(sections) for rating in self._ratings]

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The score of one aspect."""
        return self._ratings[question].score(answer, answered(item))

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """Mean and scores of the aspects."""
        return {"rating": fmean(parsed), **dict(zip(self.aspects, parsed, strict=True))}
