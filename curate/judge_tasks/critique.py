"""Critique of an answer by a principle: the first step of Constitutional AI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count, Seed
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.parsing import prose
from siftune.curate.judging.principles import PRINCIPLES, Principled, Principles, draw
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import answered

__all__ = ["Critique"]

_RUBRIC = """You criticise the answer of an AI assistant by one principle: {principle}"""
_REPLY = """Name in a few sentences in which ways the answer goes against the principle, or could \
follow it better. Do not rewrite the answer."""


@dataclass(frozen=True)
class Critique(Principled):
    """``critique`` of the answer by ``principle``; Bai et al. 2022, arXiv:2212.08073.

    The principle is drawn by a hash of the row: the same row has the same one, in any order. What
    the judge writes is text for `revision`, not a score.

    Options:
        principles: A text file with one principle a line, or a list of principles.
        seed: Another seed draws other principles; rounds of critique and revision differ in it.
        max_tokens: Limit of the critique; a longer one is cut.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    principles: Principles = PRINCIPLES
    seed: Seed = 0
    max_tokens: Count = 400
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 1
    adds: ClassVar[Mapping[str, type[pl.DataType]]] = {
        "critique": pl.String,
        "principle": pl.String,
    }

    def _prompt(self, principle: str) -> Prompt:
        rubric = _RUBRIC.format(principle=principle)
        return Prompt(
            "critique", rubric, _REPLY, max_tokens=self.max_tokens, max_chars=self.max_chars
        )

    def questions(self, item: Item) -> Sequence[Question]:
        """One question."""
        sections = answered(item)
        return [self._prompt(draw(self._principles, sections, self.seed)).question(sections)]

    def parse(self, item: Item, question: int, answer: Answer) -> str:
        """The critique."""
        return prose(self._prompt(""), answer, complete=False)

    def verdict(self, item: Item, parsed: Sequence[str]) -> Mapping[str, Any]:
        """The critique and its principle."""
        principle = draw(self._principles, answered(item), self.seed)
        return {"critique": parsed[0], "principle": principle}
