"""DEITA complexity: how difficult each user message is, 1 to 6, as an expected score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import Rating, prompted, turns

__all__ = ["DeitaComplexity"]

_RUBRIC = """You rate how difficult and complex an instruction to an AI assistant is, from 1 \
(trivial) to 5 (very complex). A score of 6 is for an instruction that is too complex for you."""
_REPLY = "Reply with the score only: one digit from 1 to 6."


@dataclass(frozen=True)
class DeitaComplexity:
    """``complexity``: mean over user messages, 1 to 6; Liu et al. 2023, arXiv:2312.15685.

    With probabilities of the labels 1 to 6 a score is their mean, ``sum of k * p_k``, as in the
    paper; a judge that writes gives its number. DEITA's own code answers 3.0 where a label has no
    probability; here there is no score. ``complexity_turns`` holds each message's score, for the
    paper's sum over turns of complexity times quality, which favours long dialogues. The judge
    reads each message alone, and no system message.

    Options:
        max_chars: Characters of a message that the judge is shown; null shows all.
    """

    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = None
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "complexity": pl.Float64,
        "complexity_turns": pl.List(pl.Float64),
    }

    @cached_property
    def _rating(self) -> Rating:
        return Rating(Prompt("deita_complexity", _RUBRIC, _REPLY, max_chars=self.max_chars), 1, 6)

    def questions(self, item: Item) -> Sequence[Question]:
        """One question a user message."""
        return [self._rating.question(prompted(turn)) for turn in turns(item)]

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The score of one message."""
        return self._rating.score(answer, prompted(turns(item)[question]))

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """Mean and list of the scores."""
        return {"complexity": fmean(parsed), "complexity_turns": list(parsed)}
