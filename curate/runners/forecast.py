"""Forecast of a run: rows and CPU seconds of each stage, and what each figure is based on.

A stage's rate is that of an earlier run, where this folder or one beside it holds the manifest of
a run with the same stage on enough rows; else it is timed on the first rows of the source, which
are read and processed in a temporary folder. A score under a model is timed alone, on fewer rows.
What reads a reference, adds to an index, or needs what such a stage adds is not timed: it has no
rate before its first run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import pyarrow.parquet as pq

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import read_json
from siftune.curate.io.containers import expand
from siftune.curate.runners.plan import Plan, Step
from siftune.curate.runners.row_counts import Records, records
from siftune.curate.runners.timing import Sampled, Trial, loads_model, models_tried, sampled
from siftune.curate.runs.recipe import Recipe, Spec, component
from siftune.curate.runs.run_manifest import fits

__all__ = ["Forecast", "Seconds", "forecast", "forecast_lines", "source_rows"]

Seconds: TypeAlias = tuple[float, float]
"""Lowest and highest."""

_TENTH: Final = 10  # a run on a smaller share measures what is loaded more than the rows
_FEW: Final = 1_000  # rows, of which a run is comparable to at most twice as many
_LEAST, _MOST = 0.7, 1.5  # of a rate: the other rows may differ, and so may the load here
_MODEL_ROWS: Final = 1_000  # rows from which on a stage that loads a model is timed
_GROWTH: Final = 0.15  # a selector's seconds a row grow as the rows to this power, if it is quick
_SLACK: Final = 1.5  # at most so many times the expected rows are kept
_BESIDE: Final = 20  # run folders that are searched, the newest


@dataclass(frozen=True)
class Forecast:
    """One stage: its input rows, and its CPU seconds; None where they are unknown."""

    label: str
    rows: Records
    at_most: bool  # earlier selectors may leave fewer rows
    seconds: Seconds | None
    how: str


def forecast(plan: Plan, out: Path, trial: Trial, least: int = 0) -> list[Forecast]:
    """Rows and cost of each stage of ``plan``, and of writing the outputs; none if all is done.

    Nothing is timed where there are fewer than ``least`` rows: it would take as long as the run;
    of a stage that loads a model, where there are fewer than `_MODEL_ROWS`.
    """
    done = [plan.ingested, *(step.done for step in plan.steps)]
    if all(done):
        return []
    rows = _rows(plan)
    found_before = prior_stages(plan.recipe, out).items()
    known = {at: one for at, one in found_before if _is_comparable(one, rows.count)}
    lacking = any(
        at not in known and not (at < len(done) and done[at]) for at in range(len(done) + 1)
    )
    timed = sampled(plan.recipe, rows.count, trial) if lacking and rows.count >= least else None
    models = [
        at
        for at, step in enumerate(plan.steps, 1)
        if not step.done and at not in known and loads_model(step.spec, plan.recipe.seed)
    ]
    enough = rows.count >= _MODEL_ROWS
    loaded = models_tried(plan.recipe, models, rows.count, trial) if enough else {}
    given = rows if timed is None or plan.ingested else timed.scaled(rows)
    between = [RowRange(rows.count, rows.count), *row_flow(plan, given.count, known, timed)]
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


def _is_comparable(before: PriorStage, rows: int) -> bool:
    """Whether the time of an earlier run depends on its rows more than on its fixed cost."""
    times = _TENTH if before.rows >= _FEW else 2
    return before.rows * times >= rows


def forecast_lines(forecasts: Sequence[Forecast], least: float = 0.0) -> list[str]:
    """The forecasts as lines, the sum last; none below ``least`` CPU seconds."""
    low, high = (sum(one.seconds[i] for one in forecasts if one.seconds) for i in (0, 1))
    if high <= least:
        return []
    lines = [_line(one) for one in forecasts]
    unknown = [one.label for one in forecasts if one.seconds is None]
    more = f", and what {', '.join(unknown)} will take" if unknown else ""
    return [*lines, f"  {'in all':<20} {_span((low, high)):>48}{more}"]


def _line(one: Forecast) -> str:
    """One line with the middle of the range: the range itself misses more often than the sum's."""
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
    """Number of records in the sources of a recipe, counted where that is quick."""
    found = records(part for source in recipe.source for part in expand(source))
    limit = recipe.limit
    return found if limit is None or found.count <= limit else Records(limit, counted=True)


def _cost(
    at: int,
    spec: Spec | None,
    rows: RowRange,
    known: Mapping[int, PriorStage],
    timed: Sampled | None,
) -> tuple[Seconds | None, str]:
    selects = spec is not None and spec.group == "select"
    if at in known:
        return _again(known[at], rows, selects), known[at].how
    if timed is None:
        return None, "not timed: few rows"
    if at in timed.not_tried:
        return None, f"not tried: {timed.not_tried[at]}"
    return _scaled(timed, at, rows, selects), timed.how


def _ranged(seconds: Callable[[int], float], rows: RowRange) -> Seconds:
    return seconds(rows.least) * _LEAST, seconds(rows.most) * _MOST


def _again(before: PriorStage, rows: RowRange, selects: bool) -> Seconds:
    """From an earlier run, in proportion; a selector's seconds may grow with the square of rows."""
    low, high = (count / max(before.rows, 1) for count in (rows.least, rows.most))
    if selects:
        low, high = low * min(1.0, low), high * max(1.0, high)
    return before.cpu_seconds * low * _LEAST, before.cpu_seconds * high * _MOST


def _scaled(timed: Sampled, at: int, rows: RowRange, selects: bool) -> Seconds:
    """From the trials, for the expected number of rows and for the most that are possible."""
    growth = max(1.0, rows.most / timed.rows) ** _GROWTH if selects else 1.0
    low, high = timed.seconds(at, rows.least), timed.seconds(at, rows.most)
    return low * _LEAST, high * growth * _MOST


@dataclass(frozen=True)
class RowRange:
    """The expected number of rows, and the most that are possible."""

    least: int
    most: int


def row_flow(
    plan: Plan, rows: int, known: Mapping[int, PriorStage], timed: Sampled | None
) -> list[RowRange]:
    """Input rows of each stage of ``plan``, and of the outputs.

    ``rows`` come from ingestion; ``known`` are earlier runs, ``timed`` the trials.
    """
    left, found = RowRange(rows, rows), []
    sources = _sources(plan.recipe)
    for place, step in enumerate(plan.steps, 1):
        found.append(left)
        if step.spec.group == "select":
            made = component(step.spec, plan.recipe.seed)
            tried = timed if timed is not None and place in timed.places else None
            one = _Selector(made, step, place, sources, known.get(place), tried)
            left = one.leaves(left)
    return [*found, left]


def _sources(recipe: Recipe) -> int | None:
    """Number of values of the column ``source``; None where tables of ours are read."""
    parts = [part for source in recipe.source for part in expand(source)]
    return None if any(part.container == "rows" for part in parts) else len(parts)


@dataclass(frozen=True)
class _Selector:
    """A selector of a plan, with what its options, an earlier run or trials predict."""

    made: Any
    step: Step
    place: int
    sources: int | None
    before: PriorStage | None
    tried: Sampled | None

    def leaves(self, given: RowRange) -> RowRange:
        """The rows that it keeps of ``given``."""
        if self.step.kept is not None:
            return RowRange(self.step.kept, self.step.kept)
        most = min(self._limit(given.most), self._bound(given.most))
        return RowRange(min(most, self._limit(given.least), self._expected(given.least)), most)

    def _limit(self, rows: int) -> int:
        """The most rows of so many that its options allow."""
        known = hasattr(self.made, "most_kept")
        return int(self.made.most_kept(rows, self.sources)) if known else rows

    def _bound(self, rows: int) -> int:
        """The most rows that a token budget, or quotas of an unknown number of values, allow."""
        if not hasattr(self.made, "most_kept") or self._limit(rows) < rows or self.tried is None:
            return rows
        tokens = getattr(self.made, "tokens", None)
        if tokens is None:
            return min(rows, math.ceil(_SLACK * self._expected(rows)))
        each = self.tried.tokens_a_row(self.place)
        return rows if each is None else min(rows, math.ceil(_SLACK * tokens / each))

    def _expected(self, rows: int) -> int:
        """The expected number of kept rows of so many; all, where nothing predicts it."""
        if self.before is not None and self.before.kept is not None:
            return round(rows * self.before.kept / max(self.before.rows, 1))
        return rows if self.tried is None else round(self.tried.kept(self.place, rows))


@dataclass(frozen=True)
class PriorStage:
    """CPU seconds of a stage in an earlier run, and its rows."""

    cpu_seconds: float
    rows: int
    how: str
    kept: int | None = None  # rows, by a selector


def prior_stages(recipe: Recipe, out: Path) -> dict[int, PriorStage]:
    """Stages of ``recipe`` in earlier runs: in ``out``, or in a folder beside it.

    Keys are 0 for ingest, found by source and format; then the stages, found by their component and
    all its options; last the outputs, found by all stages together.
    """
    found: dict[int, PriorStage] = {}
    for folder, manifest in _manifests(out):
        for at in range(len(recipe.stages) + 2):
            place = _place(recipe, at, manifest["recipe"])
            one = None if place is None else _took(manifest, place, folder)
            if at not in found and one is not None:
                found[at] = one
    return found


def _place(recipe: Recipe, at: int, then: Mapping[str, Any]) -> int | None:
    """Position in the other recipe of what this one has at ``at``; None if it has none."""
    stages = [_plain(asdict(spec)) for spec in recipe.stages]
    if at == 0:
        source = _plain([recipe.source, recipe.format])
        return 0 if source == [then["source"], then["format"]] else None
    if at > len(stages):
        return at if stages == then["stages"] else None
    same = [place for place, other in enumerate(then["stages"], 1) if other == stages[at - 1]]
    return same[0] if same else None


def _took(manifest: Mapping[str, Any], place: int, folder: Path) -> PriorStage | None:
    """The time of a position in a manifest; None if the manifest has no time or no row of it."""
    stages = manifest["stages"]
    label = stages[place]["stage"] if place < len(stages) else "outputs"
    took = manifest["clock"].get(label, {}).get("cpu_seconds")
    rows = stages[place]["rows"] if 0 < place < len(stages) else stages[0]["rows_in"]
    known = took is not None and rows
    kept = stages[place].get("kept") if 0 < place < len(stages) else None
    return PriorStage(took, rows, f"as in {folder} on {rows:,} rows", kept) if known else None


def _manifests(out: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The manifest in ``out`` and those in the folders beside it, the newest first."""
    beside = [path for path in out.parent.glob("*/manifest.json") if path.parent != out]
    newest = sorted(beside, key=lambda path: path.stat().st_mtime, reverse=True)[:_BESIDE]
    for path in [out / "manifest.json", *newest]:
        if path.is_file() and (manifest := _read(path)) is not None:
            yield path.parent, manifest


def _read(path: Path) -> Mapping[str, Any] | None:
    """A manifest of ours, else None: other tools have files of this name, too."""
    try:
        found = read_json(path)
    except (UsageError, OSError):
        return None
    return found if fits(found) else None


def _plain(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))
