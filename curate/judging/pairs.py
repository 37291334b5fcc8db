"""Pairwise comparison by an LLM judge: both orders asked, a verdict of the two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import polars as pl

from siftune.curate.judge_calls.fence import Section, conversation
from siftune.curate.judge_calls.types import Answer, Item, UnjudgeableError
from siftune.curate.judging.parsing import Asked, Where, distribution, label
from siftune.curate.judging.rating import prompted

__all__ = [
    "PAIR_COLUMNS",
    "TIE",
    "PairsOf",
    "Shown",
    "answer_pairs",
    "both_orders",
    "pair_name",
    "pair_values",
    "preferred",
    "probability",
]

PairsOf: TypeAlias = Literal["neighbours", "all"]
"""Which answers to a prompt are compared: 1 and 2, 3 and 4 …; or any two."""

PAIR_COLUMNS: Final[Mapping[str, type[pl.DataType]]] = {
    "winner": pl.String,
    "preference": pl.Float64,
    "consistent": pl.Boolean,
    "tie": pl.Boolean,
    "first_position": pl.Float64,
}
"""Columns of a comparison.

``winner`` is first, second or tie: the place in the row, not in the prompt. ``preference`` is how
likely the row's first answer is the better one, 0 to 1, averaged over both orders. ``consistent``
is whether both orders agree; where they do not, the winner is a tie. ``first_position`` is the
score of the answer that was shown first, ties half, summed over the two orders, 0 to 2: over many
rows its mean is 1 without position bias.
"""

TIE: Final = "C"


class Shown(NamedTuple):
    """A verdict in one order: for the answer shown first (1), the second (0), or neither (0.5)."""

    verdict: float
    probability: float


def both_orders(item: Item) -> list[list[Section]]:
    """The sections in the order of the row, and with the answers swapped.

    Raises:
        UnjudgeableError: the prompt or one of two answers is missing or empty.
    """
    prompted(item)
    if len(item.answers) != 2 or not all(map(str.strip, item.answers)):
        raise UnjudgeableError("no_answer", "expected two answers, of which none is empty")
    return [conversation(item), conversation(replace(item, answers=item.answers[::-1]))]


_TIE_WORDS: Final = {"tie": TIE, "neither": TIE}
_VALUE: Final = {"A": 1.0, "B": 0.0, TIE: 0.5}


def preferred(
    asked: Asked, answer: Answer, sections: Sequence[Section], where: Where = "alone"
) -> Shown:
    """Which answer a verdict prefers, of those shown: A, B, or C for a tie.

    Raises:
        UnparsedError: the answer names none of them, or several.
    """
    probabilities = distribution(asked, answer)
    if probabilities is None:
        words = _TIE_WORDS if TIE in asked.labels else {}
        value = _VALUE[label(asked, answer, sections, where, words)]
        return Shown(value, value)
    likeliest = max(probabilities.values())
    best = {_VALUE[name] for name, value in probabilities.items() if value == likeliest}
    expected = sum(_VALUE[name] * value for name, value in probabilities.items())
    return Shown(best.pop() if len(best) == 1 else 0.5, expected)


def probability(log_odds: float) -> float:
    """``1 / (1 + exp(-log_odds))``, without overflow.

    >>> probability(0.0), probability(-1000.0)
    (0.5, 0.0)
    """
    low = math.exp(-abs(log_odds))
    return (1.0 if log_odds >= 0 else low) / (1 + low)


def pair_values(given: Shown, swapped: Shown) -> dict[str, Any]:
    """The `PAIR_COLUMNS` of two verdicts: in the order of the row, and swapped.

    >>> pair_values(Shown(1, 0.75), Shown(0, 0.25))["preference"]
    0.75
    >>> pair_values(Shown(1, 1), Shown(1, 1))["winner"]  # always the answer shown first
    'tie'
    """
    consistent = given.verdict == 1 - swapped.verdict
    winner = {1.0: "first", 0.0: "second", 0.5: "tie"}[given.verdict] if consistent else "tie"
    return {
        "winner": winner,
        "preference": (given.probability + 1 - swapped.probability) / 2,
        "consistent": consistent,
        "tie": winner == "tie",
        "first_position": given.verdict + swapped.verdict,
    }


def answer_pairs(count: int, which: PairsOf) -> Iterator[tuple[int, int]]:
    """The answers, of ``count`` to one prompt, that are compared with each other.

    >>> list(answer_pairs(5, "neighbours")), list(answer_pairs(3, "all"))
    ([(0, 1), (2, 3)], [(0, 1), (0, 2), (1, 2)])
    """
    if which == "all":
        return combinations(range(count), 2)
    return ((at, at + 1) for at in range(0, count - 1, 2))


def pair_name(places: Sequence[int], which: PairsOf) -> str:
    """What ends the id of a pair of one list: its number, or those of both answers.

    >>> pair_name((2, 3), "neighbours"), pair_name((2, 0), "all")
    ('2', '1-3')
    """
    first, second = sorted(places)
    return f"{first + 1}-{second + 1}" if which == "all" else str(first // 2 + 1)
