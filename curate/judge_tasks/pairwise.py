"""Pairwise preference: the better of two answers, asked in both orders, with ties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.pairs import (
    PAIR_COLUMNS,
    TIE,
    Shown,
    both_orders,
    pair_values,
    preferred,
)
from siftune.curate.judging.prompt import MAX_CHARS, Prompt

__all__ = ["Pairwise"]

_RUBRIC = """You compare two answers of AI assistants, A and B, to the same instruction, and \
decide which is better by its {criteria}. The order in which the answers are shown and their \
length do not matter."""
_REPLY = "Reply with one letter only: A if answer A is better, B if answer B is better{tie}."
_MAY_TIE = f", {TIE} if they are equally good"


@dataclass(frozen=True)
class Pairwise:
    """``winner``, ``preference``, ``consistent``, ``tie`` and ``first_position`` of two answers.

    Zheng et al. 2023, arXiv:2306.05685: each pair is asked twice, with the answers swapped, and a
    winner is who wins both; other data pipelines ask once, in one order. ``preference`` is how
    likely the row's first answer is better, 0 to 1, the mean of both orders (by probabilities where
    the judge gives them). Orders that disagree are a tie with ``consistent`` false.
    ``first_position`` counts verdicts for the answer that was shown first, ties half, 0 to 2.

    Options:
        criteria: What makes an answer better.
        ties: Whether the judge may call both equally good.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    criteria: str = "helpfulness, relevance, accuracy, depth and level of detail"
    ties: bool = True
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 2
    adds: ClassVar[Mapping[str, type[pl.DataType]]] = PAIR_COLUMNS

    @cached_property
    def _prompt(self) -> Prompt:
        return Prompt(
            "pairwise",
            _RUBRIC.format(criteria=self.criteria),
            _REPLY.format(tie=_MAY_TIE if self.ties else ""),
            labels=("A", "B", TIE) if self.ties else ("A", "B"),
            max_chars=self.max_chars,
        )

    def questions(self, item: Item) -> Sequence[Question]:
        """Two questions: the order of the row, and swapped."""
        return [self._prompt.question(sections) for sections in both_orders(item)]

    def parse(self, item: Item, question: int, answer: Answer) -> Shown:
        """The verdict in one order."""
        return preferred(self._prompt, answer, both_orders(item)[question])

    def verdict(self, item: Item, parsed: Sequence[Shown]) -> Mapping[str, Any]:
        """The columns of both verdicts."""
        return pair_values(*parsed)
