"""Rule-based rewards: yes/no propositions about an answer, each with a probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import fsum
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.files.atomic import read_json
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.criteria import CriteriaJudge, Criterion, Given, criteria_of
from siftune.curate.judging.prompt import MAX_CHARS
from siftune.curate.judging.rating import answered

__all__ = ["Propositions"]

_RUBRIC = """You decide whether a statement, the criterion among the data, is true of the answer \
that an AI assistant gave to an instruction."""


@dataclass(frozen=True)
class Propositions:
    """``probabilities`` of the propositions and ``reward``; Mu et al. 2024, arXiv:2411.01111.

    The reward is ``sum of w * p``. Weights may be negative, for what an answer should not do; the
    paper fits them by a hinge loss on ranked answers, as `fit_proposition_weights` of
    `judge_stats.proposition_weights` does. A judge that writes gives probabilities of 0
    and 1.

    Options:
        propositions: Texts such as "the answer apologises", or mappings of text and weight.
        weights: A weight for each proposition, in place of those in the mappings; or the file of
            them that `siftune curate agree --fit-weights` writes.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    propositions: Given
    weights: tuple[float, ...] | str | None = None
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 1
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "reward": pl.Float64,
        "probabilities": pl.List(pl.Float64),
    }

    def __post_init__(self) -> None:
        if not (given := criteria_of(self.propositions)):
            raise ValueError("propositions: expected one or more, got none")
        if self._weights is not None and len(self._weights) != len(given):
            raise ValueError("weights: expected one for each proposition")

    @cached_property
    def _criteria(self) -> Sequence[Criterion]:
        found = criteria_of(self.propositions)
        if self._weights is None:
            return found
        return [replace(one, weight=w) for one, w in zip(found, self._weights, strict=True)]

    @cached_property
    def _weights(self) -> Sequence[float] | None:
        """The weights, read from their file."""
        if not isinstance(self.weights, str):
            return self.weights
        path = Path(self.weights)
        if not path.is_file():
            raise ValueError(f"weights: there is no file {self.weights}")
        facts = read_json(path)
        listed = facts.get("weights") if isinstance(facts, dict) else None
        if not isinstance(listed, list) or not all(isinstance(one, int | float) for one in listed):
            raise ValueError(
                f"weights: {self.weights} is no file of `siftune curate agree --fit-weights`"
            )
        return tuple(map(float, listed))

    def describe(self) -> dict[str, Any]:
        """What is scored by besides the options: the weights of a file."""
        return {"weights": self._weights} if isinstance(self.weights, str) else {}

    @cached_property
    def _judge(self) -> CriteriaJudge:
        return CriteriaJudge("propositions", _RUBRIC, self.max_chars)

    def questions(self, item: Item) -> Sequence[Question]:
        """One question for each proposition that code does not check."""
        answered(item)
        return self._judge.questions(item, self._criteria)

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The probability of one proposition."""
        return self._judge.parse(item, self._criteria, question, answer)

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """The weighted sum, and the probabilities."""
        scores = self._judge.scores(item, self._criteria, parsed)
        reward = fsum(one.weight * p for one, p in zip(self._criteria, scores, strict=True))
        return {"reward": reward, "probabilities": scores}
