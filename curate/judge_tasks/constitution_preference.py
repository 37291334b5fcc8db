"""Preference by a principle: which of two answers follows it, in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count, Seed
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.pairs import PAIR_COLUMNS, Shown, both_orders, pair_values, preferred
from siftune.curate.judging.principles import PRINCIPLES, Principled, Principles, draw
from siftune.curate.judging.prompt import MAX_CHARS, Prompt

__all__ = ["ConstitutionPreference"]

_RUBRIC = """You compare two answers of AI assistants, A and B, to the same instruction by one \
principle: {principle} The order in which the answers are shown does not matter."""
_REPLY = "Reply with one letter only, of the answer that follows the principle better: A or B."


@dataclass(frozen=True)
class ConstitutionPreference(Principled):
    """``winner`` and the other columns of `pairwise`, by ``principle``; arXiv:2212.08073.

    The AI feedback of Constitutional AI (Bai et al. 2022): labels for a preference model. The
    principle is drawn by a hash of the row. The paper asks in one order; here both are asked, and
    orders that disagree are a tie.

    Options:
        principles: A text file with one principle a line, or a list of principles.
        seed: Another seed draws other principles.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    principles: Principles = PRINCIPLES
    seed: Seed = 0
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 2
    adds: ClassVar[Mapping[str, type[pl.DataType]]] = {**PAIR_COLUMNS, "principle": pl.String}

    def _prompt(self, principle: str) -> Prompt:
        rubric = _RUBRIC.format(principle=principle)
        return Prompt(
            "constitution_preference",
            rubric,
            _REPLY,
            labels=("A", "B"),
            max_chars=self.max_chars,
        )

    def questions(self, item: Item) -> Sequence[Question]:
        """Two questions: the order of the row, and swapped."""
        prompt = self._prompt(self._principle(item))
        return [prompt.question(sections) for sections in both_orders(item)]

    def parse(self, item: Item, question: int, answer: Answer) -> Shown:
        """The verdict in one order."""
        return preferred(self._prompt(""), answer, both_orders(item)[question])

    def verdict(self, item: Item, parsed: Sequence[Shown]) -> Mapping[str, Any]:
        """The columns of both verdicts, and the principle."""
        return {**pair_values(*parsed), "principle": self._principle(item)}

    def _principle(self, item: Item) -> str:
        """The same for both orders of the answers, and for the item without content."""
        return draw(self._principles, both_orders(item.original or item)[0], self.seed)
