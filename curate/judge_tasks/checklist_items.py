"""Checklist draft: requirements of a good answer to an instruction, written by a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.echoes import own_text
from siftune.curate.judge_calls.fence import Section, as_far_as_shown, conversation
from siftune.curate.judge_calls.types import Answer, Item, Question, UnparsedError
from siftune.curate.judging.criteria import CHECKS, Criterion, criteria_of
from siftune.curate.judging.parsing import json_value, text
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import prompted

__all__ = ["ChecklistItems"]

_RUBRIC = """You draw up a checklist for an instruction to an AI assistant: what a good answer has \
to meet, each item a question of its own that can be answered with yes or no, none of them twice. \
Weight an item by its importance, from 1 to 100. Where code can decide an item, name its check: \
{checks}; otherwise the check is null. Where answers are shown, their mistakes suggest items."""
_REPLY = """Reply with a JSON array only, of at most {most} objects: \
[{{"text": "...", "weight": 50, "check": null}}]"""
_LONGEST = 500  # characters of an item


@dataclass(frozen=True)
class ChecklistItems:
    """``checklist`` of the prompt, for `checklist`; Viswanathan et al. 2025, arXiv:2507.18624.

    An item has a text, a weight from 1 to 100, and a check where code can decide it. Rows with the
    same prompt have the same question, which a cache asks once. The paper draws items from answers
    of varied quality: answers of the row are shown, if ``with_answers`` is set.

    Options:
        most: Largest number of items; a longer checklist is an error.
        with_answers: Show the row's answers to the judge, whose mistakes suggest items.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    most: Count = 10
    with_answers: bool = False
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = None
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "checklist": pl.List(
            pl.Struct({"text": pl.String, "weight": pl.Float64, "check": pl.String})
        )
    }

    @cached_property
    def _prompt(self) -> Prompt:
        return Prompt(
            "checklist_items",
            _RUBRIC.format(checks=CHECKS),
            _REPLY.format(most=self.most),
            max_tokens=1024,
            max_chars=self.max_chars,
            options=(self.most,),
        )

    def questions(self, item: Item) -> Sequence[Question]:
        """One question."""
        return [self._prompt.question(self._sections(item))]

    def _sections(self, item: Item) -> list[Section]:
        sections = prompted(item)
        return conversation(item) if self.with_answers else sections

    def parse(self, item: Item, question: int, answer: Answer) -> Sequence[Criterion]:
        """The items."""
        expected = "a JSON array of objects with text, weight (1 to 100) and check"
        sections = as_far_as_shown(self._sections(item), self.max_chars)
        own = own_text(text(self._prompt, answer), sections)
        try:
            items = criteria_of(json_value(own, expected, sections))
        except ValueError as error:
            raise UnparsedError(f"expected {expected}: {error}") from None
        if not 0 < len(items) <= self.most or len({one.text for one in items}) < len(items):
            raise UnparsedError(f"expected 1 to {self.most} items, each of them once")
        if not all(1 <= one.weight <= 100 and len(one.text) <= _LONGEST for one in items):
            raise UnparsedError(f"expected weights of 1 to 100, texts of at most {_LONGEST}")
        return items

    def verdict(self, item: Item, parsed: Sequence[Sequence[Criterion]]) -> Mapping[str, Any]:
        """The items."""
        return {"checklist": [asdict(one) for one in parsed[0]]}
