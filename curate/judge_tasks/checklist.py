"""Checklist of an instruction: items judged or checked by code, as a weighted mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.criteria import (
    CriteriaJudge,
    Criterion,
    Given,
    criteria_of,
    item_criteria,
    weighted_mean,
)
from siftune.curate.judging.prompt import MAX_CHARS
from siftune.curate.judging.rating import answered

__all__ = ["Checklist"]

_RUBRIC = """You judge whether the answer that an AI assistant gave to an instruction meets one \
item of a checklist: the criterion among the data."""


@dataclass(frozen=True)
class Checklist:
    """``score``, the weighted mean of ``items``, each 0 to 1; Viswanathan et al., arXiv:2507.18624.

    Items are those of the option, or of the column that ``given: {checklist: COLUMN}`` names
    (`checklist_items` writes one); a field of the raw row is not read. An item with a ``check`` is
    decided by code and costs nothing; the paper averages code and judge.

    Options:
        checklist: Items for all rows: texts, or mappings of text, weight and check.
        scale: Whether the judge answers an item with Yes or No, or with 0 to 100.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    checklist: Given = ()
    scale: Literal["yes_no", "percent"] = "yes_no"
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 1
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "score": pl.Float64,
        "items": pl.List(pl.Float64),
    }

    def __post_init__(self) -> None:
        criteria_of(self.checklist)

    @cached_property
    def _judge(self) -> CriteriaJudge:
        return CriteriaJudge("checklist", _RUBRIC, self.max_chars, self.scale == "percent")

    def _criteria(self, item: Item) -> Sequence[Criterion]:
        return item_criteria(item, "checklist", criteria_of(self.checklist))

    def questions(self, item: Item) -> Sequence[Question]:
        """One question for each item that code does not check."""
        answered(item)
        return self._judge.questions(item, self._criteria(item))

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The score of one item."""
        return self._judge.parse(item, self._criteria(item), question, answer)

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """The weighted mean, and the scores of the items."""
        criteria = self._criteria(item)
        scores = self._judge.scores(item, criteria, parsed)
        return {"score": weighted_mean(criteria, scores), "items": scores}
