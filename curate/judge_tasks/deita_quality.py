"""DEITA quality: how good each reply to a user message is, 1 to 6, as an expected score."""

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
from siftune.curate.judging.rating import Rating, answered, turns

__all__ = ["DeitaQuality"]

_RUBRIC = """You rate the quality of the answer that an AI assistant gave to an instruction, from \
1 (poor) to 5 (very good). A score of 6 is for an answer that cannot be improved. Consider \
helpfulness, relevance, accuracy, depth, creativity and level of detail."""
_REPLY = "Reply with the score only: one digit from 1 to 6."


@dataclass(frozen=True)
class DeitaQuality:
    """``quality``: mean over replies, 1 to 6; Liu et al. 2023, arXiv:2312.15685.

    With probabilities of the labels 1 to 6 a score is their mean, ``sum of k * p_k``, as in the
    paper; a judge that writes gives its number. DEITA's own code answers 3.0 where a label has no
    probability; here there is no score. ``quality_turns`` holds each reply's score, for the paper's
    sum over turns of complexity times quality, which favours long dialogues.

    Options:
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 1
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "quality": pl.Float64,
        "quality_turns": pl.List(pl.Float64),
    }

    @cached_property
    def _rating(self) -> Rating:
        return Rating(Prompt("deita_quality", _RUBRIC, _REPLY, max_chars=self.max_chars), 1, 6)

    def questions(self, item: Item) -> Sequence[Question]:
        """One question a reply."""
        return [self._rating.question(answered(turn)) for turn in turns(item)]

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The score of one reply."""
        return self._rating.score(answer, answered(turns(item)[question]))

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """Mean and list of the scores."""
        return {"quality": fmean(parsed), "quality_turns": list(parsed)}
