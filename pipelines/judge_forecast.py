"""Forecast of a pipeline's judge calls, tokens and cost: example rows go through its steps.

What a model writes is not known before it runs, so that counts are bounds: each answer is as long
as its step allows, each comparison gives a pair. Nothing is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import polars as pl

from siftune.curate.core.redact import hidden
from siftune.curate.files.source_spec import in_recipe
from siftune.curate.judge_calls.spending import BILLION, Prices
from siftune.curate.judge_calls.types import Item, Question
from siftune.curate.judging.judge_columns import JudgeColumns
from siftune.curate.judging.row_items import items_of
from siftune.curate.runners.forecast import Forecast
from siftune.curate.runners.judge_pairs import read_table
from siftune.curate.runs.recipe import Recipe, component
from siftune.pipelines.judge_options import JudgeOptions, placeholder, questions_of
from siftune.pipelines.preflight import recipes_of
from siftune.pipelines.recipe import Pipeline
from siftune.pipelines.row_steps.curate import Curate
from siftune.pipelines.steps import row_step_of
from siftune.pipelines.train_steps import Step, makes_rows, models_named

__all__ = ["JudgeForecast", "forecast_lines", "forecast_of_judges"]

_EXAMPLES: Final = 100  # rows of a source that stand for all
_BYTES: Final = 4  # of a token, about
_SUMMED: Final = ("calls", "output_tokens")


@dataclass(frozen=True)
class JudgeForecast:
    """What one judge is asked by the steps of one name, at most, each question once.

    ``rounds`` are the steps of that name. ``input_tokens`` is an estimate, by four bytes a token;
    ``cost`` (dollars) a bound by the bytes, None where prices are not known. ``dearest`` is the
    bound of one call. Without ``exact`` the numbers are most of what may be.
    """

    name: str
    judge: str
    rounds: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    dearest: float
    ask_again: int
    max_cost: float | None
    exact: bool

    def line(self) -> str:
        """The forecast in words."""
        rounds = f" ({self.rounds} rounds)" if self.rounds > 1 else ""
        most = "" if self.exact else "at most "
        text = (
            f"  {self.name}{rounds}: {most}{self.calls:,} calls of {self.judge}, about "
            f"{self.input_tokens:,} input tokens, at most {self.output_tokens:,} output tokens"
        )
        if self.cost is None:
            text += ", cost not known (set price_input and price_output)"
        elif self.cost:
            text += f", at most about ${self.cost:,.4f}"
        if self.max_cost is not None:
            text += f"; max_cost ${self.max_cost:g}, never passed while no answer costs more than "
            text += f"${self.dearest:,.4f}"
        return text


@dataclass(frozen=True)
class _Rows:
    """Examples of ``count`` rows; ``exact``: the count is known, else it is the largest."""

    items: Sequence[Item]
    count: int
    exact: bool = False

    @property
    def factor(self) -> float:
        """The number of rows over that of the examples."""
        return self.count / max(1, len(self.items))

    def made(self, items: Sequence[Item]) -> _Rows:
        """Rows that a model makes of these, at most."""
        return _Rows(items, math.ceil(len(items) * self.factor))


_Known: TypeAlias = Mapping[str, _Rows]


def forecast_of_judges(
    pipeline: Pipeline, out: Path, predicted: Mapping[str, Sequence[Forecast]]
) -> list[JudgeForecast]:
    """What the steps of ``pipeline`` ask their judges; ``predicted`` are those of its recipes."""
    if not any(makes_rows(step.method) for step in pipeline.train):
        return []
    recipes = recipes_of(pipeline)
    rows: dict[str, _Rows] = {}
    for key, recipe in recipes.items():
        with in_recipe():
            source = _source_rows(recipe, out / key, predicted.get(key, ()))
        if source is not None:
            rows[key] = source
    found: dict[tuple[str, int, str], JudgeForecast] = {}
    for step in pipeline.train:
        if not makes_rows(step.method) or step.data not in rows:
            continue
        named = dict.fromkeys(models_named(step.options))
        places = {
            one: one if one not in ("rows", "pairs") or one in rows else None for one in named
        }
        work = row_step_of(step, {"model": "", "seed": pipeline.seed}, places)
        given = rows[step.data]
        asked = _asked(step, work, given) if isinstance(work, JudgeOptions) else iter(())
        if isinstance(work, Curate):
            asked = _asked_by_stages(step, work, given)
        for one in asked:
            of = (one.name, step.loop, one.judge)
            found[of] = one if of not in found else _both(found[of], one)
        made = _made(step, work, given, rows)
        if made is not None:
            rows[step.label] = made
    return list(found.values())


def forecast_lines(found: Sequence[JudgeForecast]) -> list[str]:
    """The forecasts and their sum; none where no judge is asked."""
    if not found:
        return []
    again = max(one.ask_again for one in found)
    more = f"; what cannot be parsed is asked again, at most {again} times" if again else ""
    lines = [f"calls of judges, each question once{more}:", *(one.line() for one in found)]
    if len(found) > 1:
        known = [one.cost for one in found if one.cost is not None]
        cost = f", at most about ${sum(known):,.4f}" if sum(known) else ""
        unknown = " and what is not known" if cost and len(known) < len(found) else ""
        calls, tokens = (sum(getattr(one, name) for one in found) for name in _SUMMED)
        most = "" if all(one.exact for one in found) else "at most "
        lines.append(f"  in all: {most}{calls:,} calls, {tokens:,} output tokens{cost}{unknown}")
    return lines


def _source_rows(recipe: Recipe, folder: Path, predicted: Sequence[Forecast]) -> _Rows | None:
    """The rows of a curate recipe; None of standard input, which can be read once."""
    kept = folder / "kept.parquet"
    if not predicted and kept.is_file():
        table = pl.read_parquet(kept, glob=False)
        return _Rows([*_items(table.head(_EXAMPLES))], table.height, exact=True)
    if "-" in recipe.source or not predicted:
        return None
    last = predicted[-1]
    with TemporaryDirectory() as place:
        few = min(_EXAMPLES, recipe.limit or _EXAMPLES)
        batches = read_table(replace(recipe, limit=few), Path(place)).batches(("content", "extra"))
        items = [item for batch in batches for item in _items(batch)]
    return _Rows(items, last.rows.count, last.rows.counted and not last.at_most)


def _items(table: pl.DataFrame) -> Iterator[Item]:
    return items_of(table) if {"messages", "prompt"} & {*table.columns} else iter(())


def _asked(step: Step, work: JudgeOptions, given: _Rows) -> Iterator[JudgeForecast]:
    """What each judge of a step is asked."""
    _, asked = work.foresee(given.items)
    for judge, questions in asked.items():
        prices = work.prices_of(judge) if work.priced(judge) else None
        longest = [work.longest(judge, question) for question in questions]
        exact = given.exact and step.method != "verdicts"
        yield _forecast(step.name, judge, longest, prices, work, replace(given, exact=exact))


def _asked_by_stages(step: Step, work: Curate, given: _Rows) -> Iterator[JudgeForecast]:
    """What the judges of a curate step's stages are asked, as if its selectors kept all rows."""
    specs = work.recipe("rows.parquet").stages
    made = [(one, component(one, work.seed)) for one in specs if one.group == "score"]
    for spec, scorer in made:
        if not isinstance(scorer, JudgeColumns):
            continue
        items = [one for item in given.items for one in _alone(item, scorer.asked_task.answers)]
        questions = questions_of(scorer.asked_task, items)
        for judge, prices, known in zip(
            (scorer.judge, *scorer.panel), scorer.judge_prices, scorer.prices_known, strict=True
        ):
            name = judge if isinstance(judge, str) else str(judge.get("backend"))
            exact = given.exact and len(specs) == 1
            rows = replace(given, exact=exact)
            label = f"{step.name} {spec.name}"
            yield _forecast(label, name, questions, prices if known else None, scorer, rows)


def _alone(item: Item, answers: int | None) -> list[Item]:
    """The item, or one for each of its answers, as a scorer judges sides."""
    if answers != 1:
        return [item]
    return [replace(item, answers=(one,)) for one in item.answers]


def _forecast(
    name: str,
    judge: str,
    questions: Sequence[Question],
    prices: Prices | None,
    options: Any,
    rows: _Rows,
) -> JudgeForecast:
    bounds = [(prices or Prices()).bound(question) for question in questions]
    return JudgeForecast(
        name,
        hidden(judge),
        1,
        _times(len(questions), rows),
        _times(sum(map(_input_tokens, questions)), rows),
        _times(sum(question.max_tokens for question in questions), rows),
        None if prices is None else sum(bounds) * rows.factor / BILLION,
        max(bounds, default=0) / BILLION,
        options.ask_again,
        options.max_cost,
        rows.exact,
    )


def _both(first: JudgeForecast, then: JudgeForecast) -> JudgeForecast:
    """The sum of two rounds."""
    names = ("rounds", "calls", "input_tokens", "output_tokens")
    sums = {name: getattr(first, name) + getattr(then, name) for name in names}
    known = first.cost is not None and then.cost is not None
    return replace(
        first,
        **sums,
        cost=(first.cost or 0) + (then.cost or 0) if known else None,
        dearest=max(first.dearest, then.dearest),
        exact=first.exact and then.exact,
    )


def _times(number: int, rows: _Rows) -> int:
    return math.ceil(number * rows.factor)


def _input_tokens(question: Question) -> int:
    return math.ceil(
        sum(len(text.encode("utf-8", "replace")) for _, text in question.messages) / _BYTES
    )


def _made(step: Step, work: Any, given: _Rows, rows: _Known) -> _Rows | None:
    """The rows that a step makes; None where nothing is known of it."""
    if isinstance(work, JudgeOptions):
        return given.made(work.foresee(given.items)[0])
    make = _MAKES.get(step.method)
    return None if make is None else make(work, given, rows)


def _sampled(work: Any, given: _Rows, rows: _Known) -> _Rows:
    """Answers as long as they may be; opponents of the reference itself join them."""
    count = work.count + work.opponents * (work.mixture == 1)
    answers = (placeholder(work.max_new_tokens),) * count
    made = given.made([replace(item, answers=answers) for item in given.items])
    return replace(made, count=min(made.count, work.limit or made.count))


def _side_by_side(work: Any, given: _Rows, rows: _Known) -> _Rows | None:
    other = rows.get(work.against)
    if other is None or not other.items:
        return None
    theirs = other.items[0].answers[:1]
    made = given.made([replace(item, answers=item.answers[:1] + theirs) for item in given.items])
    return replace(made, count=min(made.count, other.count))


def _joined(work: Any, given: _Rows, rows: _Known) -> _Rows | None:
    tables = [given, *(rows[name] for name in work.also if name in rows)]
    items = [item for table in tables for item in table.items]
    return _Rows(items, sum(table.count for table in tables))


def _selected(work: Any, given: _Rows, rows: _Known) -> _Rows:
    return given.made(given.items)


_MAKES: Final[Mapping[str, Callable[[Any, _Rows, _Known], _Rows | None]]] = {
    "sample": _sampled,
    "versus": _side_by_side,
    "concat": _joined,
    "curate": _selected,
}
