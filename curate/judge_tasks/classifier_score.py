"""Score of each answer by a reward model or classifier, and the preference between two answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.conversation_score import score_of, score_questions
from siftune.curate.judging.pairs import probability

__all__ = ["ClassifierScore"]


@dataclass(frozen=True)
class ClassifierScore:
    """``score``: a model's number for a conversation; ``preference`` where there are two answers.

    The question is the conversation itself, without a rubric, and asks for no text, so only the
    judge ``classifier`` answers it. ``scores`` holds the number of each answer, ``score`` that of
    the first. ``preference`` is how likely the row's first answer is the better one under the
    Bradley-Terry model, ``1 / (1 + exp(second - first))``, as reward models are trained
    (arXiv:2203.02155, equation 1); null without exactly two answers. It is a probability only for
    models trained so: other scores have another scale.

    Of a model with several classes the score is the probability of ``label``, or the expected
    value where all classes are numbers.

    Options:
        label: Class whose probability is the score.
    """

    label: str | None = None

    answers: ClassVar = None
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "score": pl.Float64,
        "scores": pl.List(pl.Float64),
        "preference": pl.Float64,
    }

    def questions(self, item: Item) -> Sequence[Question]:
        """One question an answer; a prompt without one is scored alone."""
        return score_questions(item, self.label)

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The score of one conversation."""
        return score_of(answer, self.label)

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """The scores, and the preference of two."""
        preference = None
        if len(parsed) == 2:
            preference = probability(parsed[0] - parsed[1])
        return {"score": parsed[0], "scores": list(parsed), "preference": preference}
