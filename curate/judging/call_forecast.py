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
from siftune.curate.core.redact import hidden
from siftune.curate.judge_calls.answer_cache import key_of
from siftune.curate.judge_calls.engine_options import cache_file
from siftune.curate.judge_calls.spec import judge_name, named_judge
from siftune.curate.judge_calls.spending import BILLION, most_input_tokens
from siftune.curate.judge_calls.types import Item, Question, UnjudgeableError
from siftune.curate.judging.judge_columns import JudgeColumns
from siftune.curate.judging.predicted_sums import Range, added, predicted_sum
from siftune.curate.judging.row_items import items_of
from siftune.curate.rows.conversation_views import score

__all__ = ["CallForecast", "forecast_calls"]

_PILOT: Final = 10  # rows with answers, from which on others are extrapolated

Counter: TypeAlias = Callable[[Sequence[Question]], list[int]]


@dataclass(frozen=True)
class CallForecast:
    """What judging rows takes; money in dollars. None where it is not known yet.

    ``rows`` are those that some judge is asked about, ``answered`` those that all have answered.
    ``calls`` are those still to be sent, without asking again; ``cached`` the answers that are
    there. Tokens and cost are of all rows, those that are answered too; ``paid`` is what these
    cost. Those that end in ``_left`` are of the rows without answers, which are still to be paid.
    ``most_cost`` is the bound that `max_cost` reserves. ``how`` is the basis of the tokens.
    """

    rows: int
    calls: int
    cached: int
    answered: int
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
            paid = f"; ${self.paid:,.4f} is paid" if self.answered or self.paid else ""
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
        if left == whole:
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

    ``tokenizer`` is that of the model (its name or folder) of a judge on a server: exact with its
    chat template. A model in this process has its own.
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
    judged: list[list[_Row]] = field(init=False)  # the same rows by each judge
    cached: int = 0
    _asked: set[bytes] = field(default_factory=set)  # keys: the texts of all rows are too much

    adds: ClassVar[Mapping[str, Any]] = {"calls": pl.UInt32}

    def __post_init__(self) -> None:
        self.judged = [[] for _ in self.counters]

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns that are read."""
        return self.scorer.needs

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The number of calls of each row."""
        calls = np.zeros(batch.height, np.uint32)
        for number in range(len(self.scorer.backends)):
            found = self._judged(number, batch)
            self.judged[number] += found
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
        parts = [self._part(number, rows) for number, rows in enumerate(self.judged)]
        of_rows = [
            [row for row in judged if row.calls] for judged in zip(*self.judged, strict=True)
        ]
        of_rows = [judged for judged in of_rows if judged]
        rows = [row for judged in of_rows for row in judged]
        rest = [row for row in rows if row.spent is None]
        most_cost = sum(row.most_cost for row in rest) / BILLION
        paid = sum(part.paid for part in parts)
        return CallForecast(
            rows=len(of_rows),
            calls=sum(row.new for row in rows),
            cached=self.cached,
            answered=sum(all(row.spent is not None for row in judged) for judged in of_rows),
            input_tokens=added(part.input_tokens for part in parts),
            output_tokens=added(part.output_tokens for part in parts),
            most_output_tokens=sum(row.most_output for row in rows),
            cost=_cost(parts, "cost"),
            paid=paid,
            most_cost=most_cost + paid if all(self.scorer.prices_known) else None,
            how=_how(parts),
            input_tokens_left=added(part.input_tokens_left for part in parts),
            output_tokens_left=added(part.output_tokens_left for part in parts),
            most_output_tokens_left=sum(row.most_output for row in rest),
            cost_left=_cost(parts, "cost_left"),
            stated=all(part.stated for part in parts if part.answered),
        )

    def _part(self, number: int, rows: Sequence[_Row]) -> _Part:
        """What one judge takes."""
        asked = [row for row in rows if row.calls]
        known = [row for row in asked if row.spent is not None]
        rest = [row for row in asked if row.spent is None]
        value, left = partial(_sum_of, known, rest), partial(_sum_left, known, rest)
        stated = any((row.spent or {}).get("input_tokens") is not None for row in known)
        tokens_in, tokens_left = value("input_tokens"), left("input_tokens")
        how = f"from {len(known):,} answered rows"
        if tokens_in is None and self.counters[number]:
            how = "by the tokenizer, with its chat template"
            tokens_in, tokens_left = _exactly(asked), _exactly(rest)
        elif tokens_in is None:
            name = hidden(judge_name((self.scorer.judge, *self.scorer.panel)[number]))
            whose = f"tokenizer of {name}" if self.scorer.panel else "judge's tokenizer"
            pilot = "or pay a pilot" if stated or not known else "the judge states none"
            how = f"name the {whose}, {pilot}"
        return _Part(
            answered=len(known),
            input_tokens=tokens_in,
            input_tokens_left=tokens_left,
            output_tokens=value("output_tokens"),
            output_tokens_left=left("output_tokens"),
            cost=value("cost"),
            cost_left=left("cost"),
            paid=sum(map(_paid, known)),
            bound=sum(row.most_cost for row in rest),
            stated=stated,
            how=how,
        )


@dataclass(frozen=True)
class _Part:
    """What one judge takes; fields as those of `CallForecast`, ``bound`` is what is left to pay."""

    answered: int
    input_tokens: Range | None
    input_tokens_left: Range | None
    output_tokens: Range | None
    output_tokens_left: Range | None
    cost: Range | None
    cost_left: Range | None
    paid: float
    bound: int
    stated: bool
    how: str


def _cost(parts: Sequence[_Part], name: str) -> Range | None:
    """The cost of all judges; of one without a price nothing, also where no answer is there yet."""
    if all(part.cost is None for part in parts):
        return None
    nothing = Range(0.0, 0.0, 0.0)
    return added(getattr(part, name) if part.cost or part.bound else nothing for part in parts)


def _how(parts: Sequence[_Part]) -> str:
    """The basis of the input tokens; where some are not known, what is needed for those."""
    lacking = [part for part in parts if part.input_tokens is None]
    return "; ".join(dict.fromkeys(part.how for part in lacking or parts))


def _exactly(rows: Sequence[_Row]) -> Range:
    size = float(sum(row.size for row in rows))
    return Range(size, size, size)


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


def _counter(judge: str | Mapping[str, Any], tokenizer: str | None) -> Counter | None:
    """How the tokens of a judge's questions are counted; None where its tokenizer is not known."""
    backend, options = named_judge(judge)
    if backend == "local_model":
        return _tokens_of(str(options["model"]))
    return None if tokenizer is None else _tokens_of(tokenizer)


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
