"""Contrastive judgements of Con-J: sampled verdicts on two answers, each with its reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count, Positive, check_ranges
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judging.pairs import (
    PAIR_COLUMNS,
    Shown,
    both_orders,
    pair_values,
    preferred,
    probability,
)
from siftune.curate.judging.prompt import MAX_CHARS, Prompt

__all__ = ["Contrastive"]

_RUBRIC = """You compare two answers of AI assistants, A and B, to the same instruction, and \
decide which is better by its {criteria}. The order in which the answers are shown and their \
length do not matter."""
_REPLY = """First give your reasons in at most 150 words; then end with a last line that is either \
"Verdict: A" or "Verdict: B"."""


@dataclass(frozen=True)
class Contrastive:
    """``judgements`` of two answers with their ``verdicts``; Ye et al. 2024, arXiv:2410.03742.

    Con-J trains a judge by DPO on its own judgements: those with the right verdict are preferred to
    those with the wrong one. Each order of the answers is sampled ``samples`` times; judgements
    take turns, the row's order first, so every second one is of the swapped order. A verdict is
    first or second, the place in the row. The other columns are those of `pairwise`, where the
    verdict of an order is the majority of its samples: ``preference`` is the mean verdict for the
    first answer, 0 to 1 (1 is first), and orders that disagree are a tie. The judge has to write:
    its probabilities are not read.

    Options:
        criteria: What makes an answer better.
        samples: Judgements of each order.
        temperature: Temperature at which they are sampled; at 0 they would be the same.
        max_tokens: Limit of a judgement; a longer one is an error.
        max_chars: Characters of each message that the judge is shown; null shows all.
        calibration: Slope c of a calibrated preference, ``1 / (1 + exp(-c (2 m - 1)))`` for the
            mean verdict m, above 0, which `siftune finetune judge` fits; null leaves the mean.
    """

    criteria: str = "helpfulness, relevance, accuracy, depth and level of detail"
    samples: Count = 4
    temperature: Positive = 0.8
    max_tokens: Count = 400
    max_chars: Count | None = MAX_CHARS
    calibration: Positive | None = None

    answers: ClassVar = 2
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        **PAIR_COLUMNS,
        "verdicts": pl.List(pl.String),
        "judgements": pl.List(pl.String),
    }

    def __post_init__(self) -> None:
        """Refuse options out of range, such as a slope that reverses the judge."""
        check_ranges(self)

    @cached_property
    def _prompt(self) -> Prompt:
        return Prompt(
            "contrastive",
            _RUBRIC.format(criteria=self.criteria),
            _REPLY,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            max_chars=self.max_chars,
        )

    def questions(self, item: Item) -> Sequence[Question]:
        """Two questions a sample: the order of the row, and swapped."""
        orders = both_orders(item)
        return [
            self._prompt.question(sections, sample)
            for sample in range(self.samples)
            for sections in orders
        ]

    def parse(self, item: Item, question: int, answer: Answer) -> tuple[Shown, str]:
        """A verdict in the order in which the answers were shown, and its text."""
        sections = both_orders(item)[question % 2]
        asked = replace(self._prompt, labels=("A", "B"))
        written = replace(answer, probabilities=None)  # the reasons are what is wanted
        return preferred(asked, written, sections, "last"), (answer.text or "").strip()

    def verdict(self, item: Item, parsed: Sequence[tuple[Shown, str]]) -> Mapping[str, Any]:
        """Mean verdict, verdicts and texts."""
        wins = [shown.verdict for shown, _ in parsed]
        values = pair_values(_majority(wins[::2]), _majority(wins[1::2]))
        if self.calibration is not None:
            values["preference"] = probability(self.calibration * (2 * values["preference"] - 1))
        return {
            **values,
            "verdicts": [
                "second" if win == number % 2 else "first" for number, win in enumerate(wins)
            ],
            "judgements": [text for _, text in parsed],
        }


def _majority(wins: Sequence[float]) -> Shown:
    """The verdict of one order, from its samples."""
    share = fmean(wins)
    return Shown(0.5 if share == 0.5 else float(share > 0.5), share)
