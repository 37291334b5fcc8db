"""What a run will cost, told before it runs: rows and CPU seconds of each stage, and how known.

A stage's rate is that of an earlier run, where this folder or one beside it holds the manifest of a
run with the same stage on enough rows; else it is timed on the first rows of the source, which are
read and worked through in a temporary folder. A score under a model is timed by itself, on fewer.
What reads a reference, adds to an index, or needs what such a stage adds is not tried: its rate is
not known before it has run once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import pyarrow.parquet as pq

from siftune.curate.io.containers import expand
from siftune.curate.runners.model_timing import loads_model, models_tried
from siftune.curate.runners.plan import Plan
from siftune.curate.runners.prior_runs import Earlier, earlier
from siftune.curate.runners.row_counts import Records, records
from siftune.curate.runners.row_flow import Between, flow
from siftune.curate.runners.timing import Sampled, Trial, sampled
from siftune.curate.runs.recipe import Recipe, Spec

__all__ = ["Forecast", "Seconds", "forecast", "source_rows", "told"]

Seconds: TypeAlias = tuple[float, float]
"""Least and most."""

_TENTH: Final = 10  # an earlier run of a smaller share tells more of what is loaded than of rows
_FEW: Final = 1_000  # rows, of which a run tells as little for more than twice as many
_LEAST, _MOST = 0.7, 1.5  # of a rate: all rows differ from some, and so does what else runs here
_WORTH_A_MODEL: Final = 1_000  # rows
_GROWTH: Final = 0.15  # a selector's seconds a row grow as the rows to this power, if it is quick


@dataclass(frozen=True)
class Forecast:
    """One stage: the rows it will be given, and its CPU seconds; none where they are not known."""

    label: str
    rows: Records
    at_most: bool  # earlier selectors may leave it fewer
    seconds: Seconds | None
    how: str


def forecast(plan: Plan, out: Path, trial: Trial, least: int = 0) -> list[Forecast]:
    """What each stage of ``plan``, and writing its outputs, will cost; none if all is done.

    Nothing is timed where there are fewer than ``least`` rows: it would take as long as the run;
    of a stage that loads a model, where there are fewer than `_WORTH_A_MODEL`.
    """
    done = [plan.ingested, *(step.done for step in plan.steps)]
    if all(done):
        return []
    rows = _rows(plan)
    found_before = earlier(plan.recipe, out).items()
    known = {at: one for at, one in found_before if _tells(one, rows.count)}
    lacking = any(
        at not in known and not (at < len(done) and done[at]) for at in range(len(done) + 1)
    )
    timed = sampled(plan.recipe, rows.count, trial) if lacking and rows.count >= least else None
    models = [
        at
        for at, step in enumerate(plan.steps, 1)
        if not step.done and at not in known and loads_model(step.spec, plan.recipe.seed)
    ]
    enough = rows.count >= _WORTH_A_MODEL
    loaded = models_tried(plan.recipe, models, rows.count, trial) if enough else {}
    given = rows if timed is None or plan.ingested else timed.scaled(rows)
    between = [Between(rows.count, rows.count), *flow(plan, given.count, known, timed)]
    labels = ["ingest", *(step.label for step in plan.steps), "outputs"]
    specs = [None, *(step.spec for step in plan.steps), None]
    found = []
    for at, (label, spec, here) in enumerate(zip(labels, specs, between, strict=True)):
        seconds, how = _cost(at, spec, here, known, timed)
        if at in loaded:
            seconds, how = _ranged(loaded[at].seconds, here), loaded[at].how
        if at < len(done) and done[at]:
            seconds, how = (0.0, 0.0), "done before"
        counted = (given if at else rows).counted
        most = Records(here.most, counted)
        found.append(Forecast(label, most, here.least < here.most, seconds, how))
    return found


def _tells(before: Earlier, rows: int) -> bool:
    """Whether what an earlier run took is for its rows, and no fixed cost, where there are many."""
    times = _TENTH if before.rows >= _FEW else 2
    return before.rows * times >= rows


def told(forecasts: Sequence[Forecast], least: float = 0.0) -> list[str]:
    """The forecasts as lines, the sum last; none where not even ``least`` CPU seconds are known."""
    low, high = (sum(one.seconds[i] for one in forecasts if one.seconds) for i in (0, 1))
    if high <= least:
        return []
    lines = [_line(one) for one in forecasts]
    unknown = [one.label for one in forecasts if one.seconds is None]
    more = f", and what {', '.join(unknown)} will take" if unknown else ""
    return [*lines, f"  {'in all':<20} {_span((low, high)):>48}{more}"]


def _line(one: Forecast) -> str:
    """The middle of what a stage may cost: its own range misses more often than that of the sum."""
    words = ["at most"] * one.at_most + ["about"] * (not one.rows.counted)
    count = " ".join([*words, f"{one.rows.count:,} rows"])
    middle = None if one.seconds is None else math.sqrt(one.seconds[0] * one.seconds[1])
    span = "not known" if middle is None else f"about {_number(middle)} CPU s"
    return f"  {one.label:<20} {count:>29} {span:>18}  {one.how}"


def _span(seconds: Seconds) -> str:
    return " to ".join(map(_number, seconds)) + " CPU s"


def _number(seconds: float) -> str:
    return f"{seconds:,.{0 if seconds >= 10 else 1}f}"


def _rows(plan: Plan) -> Records:
    if plan.rows is not None:
        return Records(int(pq.read_metadata(plan.rows).num_rows), counted=True)
    return source_rows(plan.recipe)


def source_rows(recipe: Recipe) -> Records:
    """The records that a recipe reads of its sources, counted where that is quick."""
    found = records(part for source in recipe.source for part in expand(source))
    limit = recipe.limit
    return found if limit is None or found.count <= limit else Records(limit, counted=True)


def _cost(
    at: int, spec: Spec | None, rows: Between, known: Mapping[int, Earlier], timed: Sampled | None
) -> tuple[Seconds | None, str]:
    selects = spec is not None and spec.group == "select"
    if at in known:
        return _again(known[at], rows, selects), known[at].how
    if timed is None:
        return None, "not timed: few rows"
    if at in timed.not_tried:
        return None, f"not tried: {timed.not_tried[at]}"
    return _scaled(timed, at, rows, selects), timed.how


def _ranged(seconds: Callable[[int], float], rows: Between) -> Seconds:
    return seconds(rows.least) * _LEAST, seconds(rows.most) * _MOST


def _again(before: Earlier, rows: Between, selects: bool) -> Seconds:
    """From an earlier run: in proportion; a selector's seconds may grow with the rows' square."""
    low, high = (count / max(before.rows, 1) for count in (rows.least, rows.most))
    if selects:
        low, high = low * min(1.0, low), high * max(1.0, high)
    return before.cpu_seconds * low * _LEAST, before.cpu_seconds * high * _MOST


def _scaled(timed: Sampled, at: int, rows: Between, selects: bool) -> Seconds:
    """From the trials, for the rows that are expected and for the most that there can be."""
    growth = max(1.0, rows.most / timed.rows) ** _GROWTH if selects else 1.0
    low, high = timed.seconds(at, rows.least), timed.seconds(at, rows.most)
    return low * _LEAST, high * growth * _MOST
