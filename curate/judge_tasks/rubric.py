"""Rubric as a reward: weighted criteria of an answer, judged one by one or in one rating."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.fence import Section
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.criteria import (
    CriteriaJudge,
    Criterion,
    Given,
    criteria_of,
    item_criteria,
    weighted_mean,
)
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import Rating, answered

__all__ = ["Rubric"]

_RUBRIC = """You judge whether the answer that an AI assistant gave to an instruction meets one \
criterion, which is among the data."""
_WHOLE = """You rate the answer that an AI assistant gave to an instruction by the rubric among \
the data, whose criteria have weights, from 1 (meets none) to 10 (meets all)."""
_REPLY = "Reply with the score only: a number from 1 to 10."


@dataclass(frozen=True)
class Rubric:
    """``score`` of the answer by a rubric, 0 to 1; Gunjal et al. 2025, arXiv:2507.17746.

    Criteria are those of the option, or of the column that ``given: {rubric: COLUMN}`` names; a
    field of the raw row is not read. Weights are numbers, or the
    paper's essential (1), important (0.7), optional (0.3) and pitfall (0.9), where a pitfall is
    written as what the answer avoids. ``explicit`` asks about each criterion, Yes or No, and takes
    the weighted mean; ``implicit`` asks for one rating of 1 to 10 by the whole rubric, ``(k - 1) /
    9``. ``items`` holds the scores of the criteria, null where the rating is one.

    Options:
        criteria: Criteria for all rows: texts, or mappings of text, weight and check.
        aggregate: How criteria become one score.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    criteria: Given = ()
    aggregate: Literal["explicit", "implicit"] = "explicit"
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 1
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "score": pl.Float64,
        "items": pl.List(pl.Float64),
    }

    def __post_init__(self) -> None:
        criteria_of(self.criteria)

    @cached_property
    def _judge(self) -> CriteriaJudge:
        return CriteriaJudge("rubric", _RUBRIC, self.max_chars)

    @cached_property
    def _rating(self) -> Rating:
        return Rating(Prompt("rubric", _WHOLE, _REPLY, max_chars=self.max_chars), 1, 10)

    def _criteria(self, item: Item) -> Sequence[Criterion]:
        return item_criteria(item, "rubric", criteria_of(self.criteria))

    def _whole(self, item: Item) -> list[Section]:
        lines = [f"- {one.text} (weight {one.weight:g})" for one in self._criteria(item)]
        return [*answered(item), ("rubric", "\n".join(lines))]

    def questions(self, item: Item) -> Sequence[Question]:
        """One question for each criterion that code does not check, or one about the rubric."""
        if self.aggregate == "implicit":
            return [self._rating.question(self._whole(item))]
        answered(item)
        return self._judge.questions(item, self._criteria(item))

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The score of one criterion, or of the rubric."""
        if self.aggregate == "implicit":
            return (self._rating.score(answer, self._whole(item)) - 1) / 9
        return self._judge.parse(item, self._criteria(item), question, answer)

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """The score, and the scores of the criteria."""
        if self.aggregate == "implicit":
            return {"score": parsed[0], "items": None}
        criteria = self._criteria(item)
        scores = self._judge.scores(item, criteria, parsed)
        return {"score": weighted_mean(criteria, scores), "items": scores}
