"""Forecast of a judge's calls, tokens and money, before any of it is paid, or after a pilot.

Calls are counted on the rows themselves. Rows whose answers are in the cache are a pilot: the
tokens and the cost of the others are extrapolated from them by the size of their questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.answer_cache import key_of
from siftune.curate.judge_calls.engine_options import cache_file
from siftune.curate.judge_calls.spec import named_judge
from siftune.curate.judge_calls.spending import BILLION, most_input_tokens
from siftune.curate.judge_calls.types import Item, Question, UnjudgeableError
from siftune.curate.judging.judge_columns import JudgeColumns
from siftune.curate.judging.row_items import items_of
from siftune.curate.rows.conversation_views import score

__all__ = ["CallForecast", "Range", "forecast_calls", "predicted_sum"]

_PILOT: Final = 10  # rows with answers, from which on others are extrapolated
_LEVEL: Final = 0.975

Counter: TypeAlias = Callable[[Sequence[Question]], list[int]]


@dataclass(frozen=True)
class Range:
    """An expected sum, and its 95 % interval."""

    low: float
    value: float
    high: float

    def times(self, factor: float) -> Range:
        """The range of a sum over so many times the rows."""
        return Range(self.low * factor, self.value * factor, self.high * factor)


@dataclass(frozen=True)
class CallForecast:
    """What judging rows takes; money in dollars. None where it is not known yet.

    ``calls`` are those still to be sent, without asking again; ``cached`` the answers that are
    there. Tokens and cost are of all rows, those that are answered too; ``paid`` is what these
    cost. Those that end in ``_left`` are of the rows without answers, which are still to be paid.
    ``most_cost`` is the bound that `max_cost` reserves. ``how`` is the basis of the tokens.
    """

    rows: int
    calls: int
    cached: int
    answered: int  # rows
    input_tokens: Range | None
    output_tokens: Range | None
    most_output_tokens: int
    cost: Range | None
    paid: float
    most_cost: float | None
    how: str
    input_tokens_left: Range | None
    output_tokens_left: Range | None
    most_output_tokens_left: int
    cost_left: Range | None
    stated: bool = True  # whether answers come with their tokens

    def lines(self) -> list[str]:
        """The forecast in words."""
        there = f" ({self.cached:,} answers are in the cache)" if self.cached else ""
        lines = [f"calls: {self.calls:,} on {self.rows:,} rows{there}"]
        tokens_in = self._both(_shown, self.input_tokens, self.input_tokens_left)
        lines.append(f"input tokens: {tokens_in or 'not known'} ({self.how})")
        most = self._both(
            lambda count: f"at most {count:,}",
            self.most_output_tokens,
            self.most_output_tokens_left,
        )
        known = self._both(_shown, self.output_tokens, self.output_tokens_left)
        lines.append(f"output tokens: {known + ', ' if known else ''}{most}")
        if self.cost is not None:
            paid = f"; ${self.paid:,.4f} is paid" if self.answered else ""
            lines.append(f"cost: {self._both(_dollars, self.cost, self.cost_left)}{paid}")
        elif self.cached and not self.calls:
            lines.append("cost: nothing is left to pay")
        elif self.most_cost:
            more = "`siftune curate judge ... --pilot 100` measures it"
            if self.answered and not self.stated:
                more = f"${self.paid:,.4f} is counted: an answer without tokens costs its bound"
            lines.append(f"cost: at most ${self.most_cost:,.4f}; {more}")
        elif self.most_cost is None:
            lines.append("cost: not known (give --price-input and --price-output)")
        return lines

    def _both(self, shown: Callable[[Any], str], whole: Any, left: Any) -> str:
        """A number of all rows and that of those without answers, where these differ."""
        if whole is None:
            return ""
        if not self.answered:
            return shown(whole)
        rest = "" if left is None else f", {shown(left)} left"
        return f"{shown(whole)} in all{rest}"


def _shown(tokens: Range) -> str:
    if round(tokens.low) == round(tokens.high):
        return f"{tokens.value:,.0f}"
    return f"{tokens.value:,.0f} (95 % interval {tokens.low:,.0f} to {tokens.high:,.0f})"


def _dollars(cost: Range) -> str:
    if cost.low == cost.high:
        return f"${cost.value:,.4f}"
    return f"${cost.value:,.4f} (95 % interval ${cost.low:,.4f} to ${cost.high:,.4f})"


def forecast_calls(
    scorer: JudgeColumns,
    batches: Iterable[pl.DataFrame],
    sides: Any = "both",
    turns: Any = "last",
    tokenizer: str | None = None,
) -> CallForecast:
    """Calls, tokens and money of a scorer on rows, from its cache and without a call.

    ``tokenizer`` is that of the judge's model (its name or folder): exact with its chat template.
    """
    seen = _Questions(scorer, [_counter(one, tokenizer) for one in (scorer.judge, *scorer.panel)])
    for batch in batches:
        score(seen, batch, sides, turns)
    return seen.forecast()


@dataclass
class _Row:
    """The questions on one row by one judge, and what their answers in the cache took."""

    calls: int
    new: int  # calls that no earlier row asked, and that have no answer
    size: int  # tokens by a tokenizer, else bytes
    most_output: int
    most_cost: int  # billionths of a dollar
    spent: Mapping[str, Any] | None  # None: an answer is missing


@dataclass
class _Questions:
    """A scorer that counts the questions on rows in place of asking them."""

    scorer: JudgeColumns
    counters: Sequence[Counter | None]
    rows: list[_Row] = field(default_factory=list)
    cached: int = 0
    _asked: set[bytes] = field(default_factory=set)  # keys: the texts of all rows are too much

    adds: ClassVar[Mapping[str, Any]] = {"calls": pl.UInt32}

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns that are read."""
        return self.scorer.needs

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The number of calls of each row."""
        calls = np.zeros(batch.height, np.uint32)
        for number in range(len(self.scorer.backends)):
            found = self._judged(number, batch)
            self.rows += found
            calls += np.array([row.calls for row in found], np.uint32)
        return pl.DataFrame({"calls": calls})

    def _judged(self, number: int, batch: pl.DataFrame) -> list[_Row]:
        scorer = self.scorer
        known: list[Mapping[str, Any] | None] = [None] * batch.height
        if cache_file(scorer.cache).is_file():
            engine = replace(scorer, replay=True).engine(number)
            for at, verdict in enumerate(scorer.judged(number, engine, batch)):
                known[at] = None if verdict.error == "not_in_cache" else scorer.spent(verdict)
                self.cached += verdict.cached
        items = items_of(batch, scorer.given)
        return [self._row(number, item, one) for item, one in zip(items, known, strict=True)]

    def _row(self, number: int, item: Item, spent: Mapping[str, Any] | None) -> _Row:
        prices, count = self.scorer.judge_prices[number], self.counters[number]
        task = self.scorer.asked_task
        try:
            fits = task.answers is None or len(item.answers) == task.answers
            questions = task.questions(item) if fits else []
        except UnjudgeableError:
            questions = []
        sizes = count(questions) if count else [most_input_tokens(one) for one in questions]
        new = 0
        for question in questions if spent is None else ():
            key = key_of(str(number), question, 0)
            new += key not in self._asked
            self._asked.add(key)
        extra = getattr(self.scorer.backends[number], "extra_tokens", 0)
        longest = [replace(one, max_tokens=one.max_tokens + extra) for one in questions]
        most = sum(map(prices.bound, longest))
        most_output = sum(one.max_tokens for one in longest)
        return _Row(len(questions), new, sum(sizes), most_output, most, spent)

    def forecast(self) -> CallForecast:
        """The forecast of all rows that were counted."""
        rows = [row for row in self.rows if row.calls]
        known = [row for row in rows if row.spent is not None]
        rest = [row for row in rows if row.spent is None]
        value, left = partial(_sum_of, known, rest), partial(_sum_left, known, rest)
        tokens_in, how = value("input_tokens"), f"from {len(known):,} answered rows"
        if tokens_in is None and all(self.counters):
            size = float(sum(row.size for row in rows))
            tokens_in, how = Range(size, size, size), "by the tokenizer, with its chat template"
            size = float(sum(row.size for row in rest))
            tokens_left: Range | None = Range(size, size, size)
        else:
            tokens_left = left("input_tokens")
        stated = any((row.spent or {}).get("input_tokens") is not None for row in known)
        if tokens_in is None:
            pilot = "or pay a pilot" if stated or not known else "the judge states none"
            how = f"name the judge's tokenizer, {pilot}"
        priced = all(self.scorer.prices_known)
        most_cost = sum(row.most_cost for row in rest) / BILLION
        paid = sum(map(_paid, known))
        return CallForecast(
            rows=len(rows),
            calls=sum(row.new for row in rows),
            cached=self.cached,
            answered=len(known),
            input_tokens=tokens_in,
            output_tokens=value("output_tokens"),
            most_output_tokens=sum(row.most_output for row in rows),
            cost=value("cost"),
            paid=paid,
            most_cost=most_cost + paid if priced else None,
            how=how,
            input_tokens_left=tokens_left,
            output_tokens_left=left("output_tokens"),
            most_output_tokens_left=sum(row.most_output for row in rest),
            cost_left=left("cost"),
            stated=stated,
        )


def _paid(row: _Row) -> float:
    """What the answers on a row cost, in dollars; those that state no tokens cost their bound."""
    cost = (row.spent or {}).get("cost")
    return row.most_cost / BILLION if cost is None else float(cost)


def _sum_of(known: Sequence[_Row], rest: Sequence[_Row], name: str) -> Range | None:
    """The sum of what all rows take, by the rows with answers; None where these are too few."""
    found = _sum_left(known, rest, name)
    if found is None:
        return None
    paid = float(sum((row.spent or {})[name] for row in known))
    return Range(paid + found.low, paid + found.value, paid + found.high)


def _sum_left(known: Sequence[_Row], rest: Sequence[_Row], name: str) -> Range | None:
    """The same of the rows without answers."""
    paid_for = [
        (row, row.spent[name]) for row in known if row.spent and row.spent[name] is not None
    ]
    if (rest and len(paid_for) < _PILOT) or not paid_for or len(paid_for) < len(known):
        return None
    x = np.array([(row.calls, row.size) for row, _ in paid_for], float)
    left = np.array([(row.calls, row.size) for row in rest], float).reshape(-1, 2)
    found = predicted_sum(x, np.array([value for _, value in paid_for], float), left)
    return replace(found, low=max(0.0, found.low))


def predicted_sum(x: np.ndarray, y: np.ndarray, left: np.ndarray) -> Range:
    """The sum of ``y`` over rows ``left`` (rows, features), by least squares on rows ``x``.

    The interval is that of a sum of new observations: the variance of the fit and of each row,
    ``s² (m + tᵀ (XᵀX)⁻¹ t)`` with ``t`` the sum of the features of the ``m`` rows, and Student's t.

    >>> predicted_sum(np.ones((4, 1)), np.array([1.0, 3, 1, 3]), np.ones((2, 1))).value
    4.0
    """
    from scipy.stats import t as student

    if not len(left):
        return Range(0.0, 0.0, 0.0)
    scale = np.abs(x).max(axis=0)
    scale[scale == 0] = 1.0
    x, left = x / scale, left / scale
    fit, _, rank, _ = np.linalg.lstsq(x, y, rcond=1e-9)
    total = left.sum(axis=0)
    value = float(total @ fit)
    free = len(y) - int(rank)
    if free < 1:
        raise UsageError("too few answered rows to forecast the others from")
    variance = float(((y - x @ fit) ** 2).sum() / free)
    spread = variance * (len(left) + float(total @ np.linalg.pinv(x.T @ x, rcond=1e-9) @ total))
    half = float(student.ppf(_LEVEL, free)) * spread**0.5
    return Range(value - half, value, value + half)


def _counter(judge: str | Mapping[str, Any], tokenizer: str | None) -> Counter | None:
    """How the tokens of a judge's questions are counted; None where its tokenizer is not known."""
    backend, options = named_judge(judge)
    if tokenizer is None and backend != "local_model":
        return None
    return _tokens_of(str(tokenizer or options["model"]))


def _tokens_of(model: str) -> Counter:
    from siftune.curate.chat.encoding import encode_prompts
    from siftune.curate.models.pretrained import load_config, pretrained_tokenizer
    from siftune.curate.models.resolve import model_folder

    folder = model_folder(model)
    tokenizer = pretrained_tokenizer(folder, load_config(folder))
    if tokenizer.chat_template is None:
        raise UsageError(f"tokenizer {model} has no chat template: name the judge's own")

    def count(questions: Sequence[Question]) -> list[int]:
        turns = [
            [{"role": role, "content": text} for role, text in question.messages]
            for question in questions
        ]
        return [len(ids) for ids in encode_prompts(tokenizer, turns)] if turns else []

    return count
