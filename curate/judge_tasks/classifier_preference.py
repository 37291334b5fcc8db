"""The better of two answers by the scores of a reward model or classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.conversation_score import score_of, score_questions
from siftune.curate.judging.pairs import PAIR_COLUMNS, Shown, pair_values, probability

__all__ = ["ClassifierPreference"]


@dataclass(frozen=True)
class ClassifierPreference:
    """``winner`` and ``preference`` of two answers, which a model scores one by one.

    ``preference`` is how likely the row's first answer is the better one under the Bradley-Terry
    model, ``1 / (1 + exp(second - first))`` (arXiv:2203.02155, equation 1): a probability for
    models that are trained on pairs, and a calibrated one for those of `siftune finetune judge`.
    Each answer is scored alone, so their order plays no part: ``consistent`` is always true and
    ``first_position`` 1. Equal scores are a tie. Only a judge that scores conversations answers.

    Options:
        label: Of a model with several classes, the one whose probability is the score.
    """

    label: str | None = None

    answers: ClassVar = 2
    adds: ClassVar[Mapping[str, type[pl.DataType]]] = PAIR_COLUMNS

    def questions(self, item: Item) -> Sequence[Question]:
        """The conversation with each answer."""
        return score_questions(item, self.label)

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The score of one conversation."""
        return score_of(answer, self.label)

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """The columns of both scores."""
        first, second = parsed
        win, share = (
            (float(first > second) + float(first >= second)) / 2,
            probability(first - second),
        )
        return pair_values(Shown(win, share), Shown(1 - win, 1 - share))
