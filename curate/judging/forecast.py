"""Forecast of a judge's tokens and money, from the answers that its cache has already."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from siftune.curate.judging.answer_cache import AnswerCache
from siftune.curate.judging.asking import Asking, ItemAsking
from siftune.curate.judging.calls import CallBook
from siftune.curate.judging.engine import Judge
from siftune.curate.judging.spending import Prices
from siftune.curate.judging.types import Item, Question

__all__ = ["Estimate", "Forecast", "forecast", "total_of_rest"]

_LEAST: Final = 20  # answers that a forecast is based on
_COVERAGE: Final = 0.95


class Estimate(NamedTuple):
    """A total, and the interval that has it in 95 of 100 cases."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """Totals of all questions: those that are answered exactly, the rest estimated.

    ``cost`` is in billionths of a dollar, ``bound`` the most that the rest can cost with no
    repeated asking. Estimates are None where fewer than 20 answers are known: judge a random
    hundred rows first, which are paid once and kept.
    """

    questions: int
    answered: int
    input_tokens: Estimate | None
    output_tokens: Estimate | None
    cost: Estimate | None
    bound: int


def forecast(judge: Judge, items: Iterable[Item]) -> Forecast:
    """Tokens and cost of all ``items``, from those whose answers the cache has; asks nothing.

    The tokens of a question are a line in the bytes of its text (the slope is of the tokenizer, the
    intercept of the template), fitted to the answered ones; so are output tokens and cost.
    Repeated asking counts to the question that it repeats.
    """
    cache = AnswerCache(judge.cache, judge.account, judge.backend.identity)
    book = CallBook(cache, judge.prices or Prices(), None, replay=True)
    known: list[tuple[int, int, int, int]] = []
    rest: list[int] = []
    bound = 0
    try:
        for item in items:
            for asking in ItemAsking(judge.task, item, judge.ask_again).askings:
                size = _size(asking.question)
                first = asking.question
                used = _used(asking, book)
                if used is None:
                    rest.append(size)
                    bound += book.prices.bound(first)
                else:
                    known.append((size, *used))
    finally:
        cache.close()
    table = np.array(known, dtype=np.float64).reshape(-1, 4)
    enough = len(table) >= _LEAST or not rest
    tokens_in, tokens_out, cost = (
        _total(table[:, 0], table[:, column], rest) if enough else None for column in (1, 2, 3)
    )
    return Forecast(len(known) + len(rest), len(known), tokens_in, tokens_out, cost, bound)


def _used(asking: Asking, book: CallBook) -> tuple[int, int, int] | None:
    """Input tokens, output tokens and cost of a question; None where it has yet to be asked."""
    tokens_in = tokens_out = cost = 0
    while True:
        question = asking.question
        outcome = book.recall(book.key(question, asking.attempt))
        if outcome is None or outcome.answer is None:
            return None
        answer = outcome.answer
        tokens_in += answer.input_tokens or 0
        tokens_out += answer.output_tokens or 0
        cost += book.prices.of(question, answer)
        if asking.settle(outcome):
            return tokens_in, tokens_out, cost


def _size(question: Question) -> int:
    """Bytes of a question's text in UTF-8."""
    return sum(len(text.encode("utf-8", "replace")) for _, text in question.messages)


def _total(sizes: np.ndarray, values: np.ndarray, rest: Sequence[int]) -> Estimate:
    """The sum of the known values and of the estimate of the rest."""
    done = float(values.sum())
    if not rest:
        return Estimate(done, done, done)
    part = total_of_rest(sizes, values, np.array(rest, dtype=np.float64))
    return Estimate(*(done + one for one in part))


def total_of_rest(sizes: np.ndarray, values: np.ndarray, rest: np.ndarray) -> Estimate:
    """The sum over ``rest`` (m,) sizes of a line fitted to ``values`` at ``sizes``, both (n,).

    Least squares; the interval is that of the sum of m new values: their own spread, and the error
    of the line at the mean of the rest (Student's t, n - 2 degrees of freedom). It is no lower
    than 0, and assumes that the known rows are a random sample.
    """
    from scipy.stats import t

    n, m = len(sizes), len(rest)
    center = sizes - sizes.mean()
    spread = float(center @ center)
    slope = float(center @ values) / spread if spread else 0.0
    residuals = values - values.mean() - slope * center
    variance = float(residuals @ residuals) / (n - 2)
    away = float(rest.mean() - sizes.mean())
    value = m * (float(values.mean()) + slope * away)
    lever = 1 / n + (away**2 / spread if spread else 0.0)
    error = math.sqrt(variance * (m + m**2 * lever))
    half = float(t.ppf((1 + _COVERAGE) / 2, n - 2)) * error
    return Estimate(value, max(0.0, value - half), value + half)
