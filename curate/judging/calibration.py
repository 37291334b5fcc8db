"""Contextual calibration: label probabilities corrected by those for an item without content."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import Answer, Item, Question, Task, UnparsedError

__all__ = ["Calibrated"]

_TEXTS: Final = 20  # answers after which no more are asked for, where all were texts


@dataclass(frozen=True)
class Calibrated:
    """``task`` with the judge's preference for labels taken out of its probabilities.

    Zhao et al. 2021, arXiv:2102.09690: a model that is asked about the text ``N/A`` should have no
    preference, so each probability is divided by the one that the same label has there, and the
    quotients by their sum. This removes a constant liking for a label, such as A or 3. It does not
    make a judge better at distinguishing answers, and where a sensible judge has a preference about
    ``N/A``, too (a rating of 1), that is removed as well: measure agreement on labelled rows with
    and without it.

    The questions about ``N/A`` are the same for all rows of one shape, and asked once each with a
    cache. Only a judge that gives probabilities can be calibrated; other answers are errors, and
    where all of the first are others, the run ends.

    >>> judge = Judge(backend, Calibrated(Pairwise()))  # doctest: +SKIP
    """

    task: Task
    without_content: str = "N/A"
    _texts: Counter[bool] = field(default_factory=Counter, init=False, repr=False, compare=False)

    @property
    def answers(self) -> int | None:
        """As the task's."""
        return self.task.answers

    @property
    def adds(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        """As the task's."""
        return self.task.adds

    def questions(self, item: Item) -> Sequence[Question]:
        """The task's questions about the item, then those about the item without content."""
        own = self.task.questions(item)
        text = self.without_content
        turns = tuple((role, text) for role, _ in item.prompt)
        blank = replace(item, prompt=turns, answers=(text,) * len(item.answers), original=item)
        return [*own, *self.task.questions(blank)] if own else []

    def parse(self, item: Item, question: int, answer: Answer) -> Mapping[str, float]:
        """The probabilities of an answer; they are read in `verdict`, once corrected.

        Raises:
            UsageError: none of the first answers has any, so the judge gives none.
        """
        is_text = answer.probabilities is None
        self._texts[is_text] += 1
        if self._texts[True] == _TEXTS and not self._texts[False]:
            raise UsageError(
                f"calibrate: the first {_TEXTS} answers of the judge are texts without "
                "probabilities of labels, which calibration corrects: leave calibrate out"
            )
        if answer.probabilities is None:
            raise UnparsedError(
                "expected probabilities of labels, which calibration corrects: a chat server gives "
                "none",
                "no_probabilities",
            )
        return answer.probabilities

    def verdict(self, item: Item, parsed: Sequence[Mapping[str, float]]) -> Mapping[str, Any]:
        """The task's values from the corrected probabilities.

        Raises:
            UnparsedError: the item without content has other questions, or a label has no
                probability there.
        """
        number = len(parsed) // 2
        if len(parsed) != 2 * number:
            raise UnparsedError("expected as many questions without content", "not_calibrated")
        answers = [
            Answer(None, _corrected(shares, prior))
            for shares, prior in zip(parsed[:number], parsed[number:], strict=True)
        ]
        own = [self.task.parse(item, at, answer) for at, answer in enumerate(answers)]
        return self.task.verdict(item, own)


def _corrected(shares: Mapping[str, float], prior: Mapping[str, float]) -> dict[str, float]:
    """Probabilities divided by prior ones, with a sum of 1.

    >>> _corrected({"A": 0.75, "B": 0.25}, {"A": 0.75, "B": 0.25})
    {'A': 0.5, 'B': 0.5}
    """
    if shares.keys() != prior.keys() or not all(value > 0 for value in prior.values()):
        raise UnparsedError(
            "expected a probability of each label without content", "not_calibrated"
        )
    quotients = {label: share / prior[label] for label, share in shares.items()}
    total = math.fsum(quotients.values())
    return {label: value / total for label, value in quotients.items()}
