"""Calls, tokens and money of the stages of a plan that ask an LLM judge; nothing is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from siftune.curate.judging.call_forecast import CallForecast, forecast_calls
from siftune.curate.judging.judge_columns import JudgeColumns
from siftune.curate.judging.predicted_sums import Range
from siftune.curate.rows.table import Table
from siftune.curate.runners.forecast import Forecast
from siftune.curate.runners.judge_pairs import read_table
from siftune.curate.runners.plan import Plan, Step
from siftune.curate.runs.recipe import component

__all__ = ["with_calls"]

_MOST: Final = 20_000  # rows whose questions are counted; those of more are in proportion


def with_calls(plan: Plan, forecasts: Sequence[Forecast]) -> list[Forecast]:
    """The forecasts, with calls, tokens and money of judging stages that are not done."""
    made = {step.label: (step, _scorer(plan, step)) for step in plan.steps if not step.done}
    asking = {
        label: (step, scorer)
        for label, (step, scorer) in made.items()
        if isinstance(scorer, JudgeColumns)
    }
    if not asking:
        return [*forecasts]
    with TemporaryDirectory() as folder:
        table = _table(plan, Path(folder))
        return [
            replace(one, asking=tuple(_lines(*asking[one.label], table, one)))
            if one.label in asking
            else one
            for one in forecasts
        ]


def _scorer(plan: Plan, step: Step) -> object:
    return component(step.spec, plan.recipe.seed) if step.spec.group == "score" else None


def _table(plan: Plan, folder: Path) -> Table:
    """The ingested rows, or the first of the source."""
    if plan.rows is None or plan.kind is None:
        most = min(_MOST, plan.recipe.limit or _MOST)
        return read_table(replace(plan.recipe, limit=most), folder)
    height = pq.read_metadata(plan.rows).num_rows
    return Table(plan.rows, plan.kind, height, np.arange(min(height, _MOST)))


def _lines(step: Step, made: JudgeColumns, table: Table, rows: Forecast) -> list[str]:
    lacking = [name for name in made.given.values() if name not in table.columns]
    if lacking:
        return [f"  {step.label}: calls: not known before the column {lacking[0]} is there"]
    batches = table.batches(made.needs)
    found = forecast_calls(made, batches, step.spec.sides, step.spec.turns)
    first, *more = _scaled(found, rows.rows.count / max(len(table.alive), 1)).lines()
    lines = [f"at most, {first}" if rows.at_most else first, *more]
    return [f"  {step.label}: {line}" for line in lines]


def _scaled(found: CallForecast, factor: float) -> CallForecast:
    """The forecast for ``factor`` times the rows."""
    if factor == 1.0:
        return found

    def times(known: Range | None) -> Range | None:
        return None if known is None else known.times(factor)

    return replace(
        found,
        rows=round(found.rows * factor),
        calls=round(found.calls * factor),
        cached=round(found.cached * factor),
        answered=round(found.answered * factor),
        input_tokens=times(found.input_tokens),
        output_tokens=times(found.output_tokens),
        most_output_tokens=round(found.most_output_tokens * factor),
        cost=times(found.cost),
        paid=found.paid * factor,
        most_cost=None if found.most_cost is None else found.most_cost * factor,
        input_tokens_left=times(found.input_tokens_left),
        output_tokens_left=times(found.output_tokens_left),
        most_output_tokens_left=round(found.most_output_tokens_left * factor),
        cost_left=times(found.cost_left),
    )
