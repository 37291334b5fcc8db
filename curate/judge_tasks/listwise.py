"""Listwise ranking: several answers to one prompt, best first, shown in a shuffled order."""

from __future__ import annotations

import hashlib
import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count, Seed
from siftune.curate.judge_calls.fence import conversation
from siftune.curate.judge_calls.types import Answer, Item, Question, UnjudgeableError
from siftune.curate.judging.parsing import ranking
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import prompted

__all__ = ["Listwise"]

_LETTERS = string.ascii_uppercase
_RUBRIC = """You rank the answers of several AI assistants to the same instruction by their \
{criteria}. The order in which the answers are shown and their length do not matter."""
_REPLY = """Reply with the letters of all answers, best first, on one line, as in: B > A > C"""


@dataclass(frozen=True)
class Listwise:
    """``ranks`` of the row's answers, 1 the best, and ``best``, the place of the best, from 0.

    As Nectar was made for Starling (Zhu et al. 2023), where one order of seven answers favours the
    first: here the order is shuffled by a hash of the row, so over many rows no place has an
    advantage. A ranking that lacks an answer, or has one twice, is refused.

    Options:
        criteria: What makes an answer better.
        seed: Another seed, another shuffled order.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    criteria: str = "helpfulness, relevance, accuracy, depth and level of detail"
    seed: Seed = 0
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = None
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "ranks": pl.List(pl.UInt32),
        "best": pl.UInt32,
    }

    @cached_property
    def _prompt(self) -> Prompt:
        rubric = _RUBRIC.format(criteria=self.criteria)
        return Prompt("listwise", rubric, _REPLY, max_tokens=128, max_chars=self.max_chars)

    def questions(self, item: Item) -> Sequence[Question]:
        """One question, with the answers in the shuffled order."""
        return [self._prompt.question(conversation(self._shown(item)))]

    def parse(self, item: Item, question: int, answer: Answer) -> list[int]:
        """Places of the row's answers, best first."""
        letters = _LETTERS[: len(item.answers)]
        found = ranking(self._prompt, answer, conversation(self._shown(item)), letters)
        order = self._order(item)
        return [order[letters.index(letter)] for letter in found]

    def verdict(self, item: Item, parsed: Sequence[list[int]]) -> Mapping[str, Any]:
        """Rank of each answer, and the best."""
        (best_first,) = parsed
        ranks = [best_first.index(place) + 1 for place in range(len(best_first))]
        return {"ranks": ranks, "best": best_first[0]}

    def _shown(self, item: Item) -> Item:
        prompted(item)
        if not 2 <= len(item.answers) <= len(_LETTERS):
            told = f"expected 2 to {len(_LETTERS)} answers, got {len(item.answers)}"
            raise UnjudgeableError("wrong_number_of_answers", told)
        if not all(map(str.strip, item.answers)):
            raise UnjudgeableError("no_answer", "expected answers of which none is empty")
        return replace(item, answers=tuple(item.answers[place] for place in self._order(item)))

    def _order(self, item: Item) -> list[int]:
        """Places of the row's answers in the order in which they are shown."""
        data = repr((self.seed, item.prompt, item.answers)).encode("utf-8", "backslashreplace")
        shuffled = list(range(len(item.answers)))
        random.Random(hashlib.blake2b(data, digest_size=8).digest()).shuffle(shuffled)
        return shuffled
