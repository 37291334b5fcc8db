"""Profile of a source: its rows are read, looked at part by part, and each part is timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import numpy as np
import orjson
import pyarrow.parquet as pq

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import ProgressReporter
from siftune.curate.core.registry import build
from siftune.curate.io.ingest import ingest
from siftune.curate.profiling import looks, sampled_looks
from siftune.curate.profiling.kinds import by_kind, joined, readable
from siftune.curate.profiling.pages import as_html, as_text
from siftune.curate.profiling.scoring import PARTS, Asked, Count, NotLookedError
from siftune.curate.rows.table import Table
from siftune.curate.runners.forecast import source_rows
from siftune.curate.runners.run_folder import spool_streams
from siftune.curate.runs.recipe import Recipe
from siftune.curate.runs.stage_store import measured

__all__ = ["Cost", "Profile", "forecast_profile", "profile"]

_Look: TypeAlias = Callable[[Table, Asked, Count], Any]

_LOOKS: Final[Mapping[str, _Look]] = {
    part: getattr(looks, part, None) or getattr(sampled_looks, part) for part in PARTS
}
_SAMPLED: Final[Mapping[str, int]] = {
    "pairs": 512,
    "quality": 256,
    "toxicity": 256,
    "clusters": 256,
}
"""Parts that look at a sample, and the most rows of it that a forecast is timed on."""
_EXTRAS: Final = ("languages", "clusters")  # by packages that may be missing
_TRIALS: Final = (512, 2_048)  # rows that a forecast is timed on, the more of ten times as many
_SLOW: Final = 2.0  # CPU seconds of a part of a trial, from which on it is timed again
_FEW: Final = 32  # rows of a trial that shows what does not depend on their number
_SPREAD: Final = (0.7, 1.5)  # of a rate: other rows may differ, and so may the load of the machine
_MEMORY: Final = 10.0  # bytes at the peak for each byte of the rows: as of pairs, measured
_BUSY: Final = 20_000  # rows from which on a forecast is printed before the profile


@dataclass(frozen=True)
class Profile:
    """What is in a set of rows, as plain values; printed as text, in a notebook as HTML."""

    facts: Mapping[str, Any] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, that JSON can hold."""
        return dict(orjson.loads(orjson.dumps(self.facts)))

    def __str__(self) -> str:
        return as_text(self.facts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.facts)


@dataclass(frozen=True)
class Cost:
    """CPU seconds of each part of a profile, and the memory at its peak, before it is made."""

    rows: int
    counted: bool
    trial: int
    seconds: Mapping[str, float]
    peak_mb: float

    def __str__(self) -> str:
        about = "" if self.counted else "about "
        lines = [f"  {name:<20} about {one:,.1f} CPU s" for name, one in self.seconds.items()]
        low, high = (sum(self.seconds.values()) * one for one in _SPREAD)
        head = f"{about}{self.rows:,} rows, timed on the first {self.trial:,}"
        total = f"{low:,.0f} to {high:,.0f} CPU s, about {self.peak_mb:,.0f} MB of memory"
        return "\n".join([head, *lines, f"  {'in all':<20} {total}"])


def profile(
    recipe: Recipe, asked: Asked, progress: ProgressReporter, forecast: bool = False
) -> Profile:
    """The profile of the rows of a recipe without stages; of several kinds, of each kind.

    With ``forecast`` its cost is printed first where there are many rows.

    Raises:
        UsageError: an option is wrong, such as a folder that has no head.
        DataError: a source cannot be read, or there is no such benchmark file.
    """
    _check(asked)
    asked, unread = readable(asked)
    given = list(recipe.source)
    with TemporaryDirectory() as folder:
        recipes, empty = by_kind(spool_streams(recipe, Path(folder)))
        kinds = [
            _facts(one, asked, progress, forecast, Path(folder) / str(at))
            for at, one in enumerate(recipes)
        ]
    for one in kinds:
        rest = [each for each in one["not_looked_at"] if not unread or each["part"] != "leaks"]
        one["not_looked_at"] = [*unread, *rest]
    if empty:
        kinds[0]["empty_files"] = empty
    if len(kinds) == 1:
        return Profile({**kinds[0], "data": given})
    return Profile({"data": given, **joined(kinds), "empty_files": empty})


def _facts(
    recipe: Recipe, asked: Asked, progress: ProgressReporter, forecast: bool, place: Path
) -> dict[str, Any]:
    """The figures of rows of one kind."""
    clock: dict[str, dict[str, float]] = {}
    rows = source_rows(recipe)
    if forecast and rows.count >= _BUSY:
        progress(str(forecast_profile(recipe, asked)))
    with measured(clock.setdefault("reading", {})):
        table, facts = _read(
            recipe, place, lambda done: progress.count("reading", done, rows.count)
        )
    facts["not_looked_at"] = []
    for name, look in _LOOKS.items():
        if name in (asked.parts or PARTS):
            progress(f"profile: {name}")
        with measured(clock.setdefault(name, {})):
            _look(name, look, table, asked, _counting(progress, name, table, asked), facts)
    facts["cost"] = {
        "cpu_seconds": {name: one["cpu_seconds"] for name, one in clock.items()},
        "seconds": round(sum(one["seconds"] for one in clock.values()), 1),
        "peak_mb": max(one["peak_mb"] for one in clock.values()),
        "peak_mb_of": {name: one["peak_mb"] for name, one in clock.items()},
    }
    return facts


def _check(asked: Asked) -> None:
    """Read the heads before anything else is done."""
    given = {"fitted_quality": asked.quality, "toxicity": asked.toxicity}
    for name, model in given.items():
        if model is not None:
            build("curate.scorers", name, {"model": model}).describe()
    if asked.label is not None and asked.toxicity is None:
        raise UsageError("label is the toxic class of a classifier: name that too (toxicity)")
    if asked.tokenizer is not None:
        build("curate.scorers", "length", {"tokenizer": asked.tokenizer}).describe()


def _read(recipe: Recipe, folder: Path, count: Count) -> tuple[Table, dict[str, Any]]:
    got = ingest(
        recipe.source,
        folder,
        format=recipe.format,
        mapping=recipe.map,
        limit=recipe.limit,
        progress=count,
        given=recipe.given,
        pairs=recipe.pairs,
    )
    path = folder / "rows.parquet"
    height = pq.read_metadata(path).num_rows
    facts = {
        "data": list(recipe.source),
        "kind": got.kind,
        "formats": sorted(set(map(str, got.format.values()))),
        "rows": height,
        "records": got.rows_in,
        "quarantined": _quarantined(folder / "quarantine.jsonl"),
    }
    return Table(path, got.kind, height, np.arange(height)), facts  # type: ignore[arg-type]


def _quarantined(path: Path) -> list[dict[str, Any]]:
    """Records that gave no row by reason, the commonest first, with the place of the first."""
    reasons: dict[str, dict[str, Any]] = {}
    with path.open("rb") as lines:
        for line in map(orjson.loads, lines):
            unit = "line" if "line" in line else "row"
            first = f"{line['source']}, {unit} {line[unit]}"
            known = reasons.setdefault(
                line["reason"], {"reason": line["reason"], "records": 0, "first": first}
            )
            known["records"] += 1
    return sorted(reasons.values(), key=lambda one: -one["records"])


def _look(
    name: str, look: _Look, table: Table, asked: Asked, count: Count, facts: dict[str, Any]
) -> None:
    """Add what one part finds, or why it is left out."""
    try:
        if not table.height:
            raise NotLookedError("there are no rows")
        if name not in (asked.parts or PARTS):
            raise NotLookedError("not among the parts that were named (parts)")
        facts[name] = look(table, asked, count)
    except NotLookedError as why:
        if name != "pairs":  # nothing is missing of rows that are no pairs
            facts["not_looked_at"].append({"part": name, "why": str(why)})
    except UsageError as error:
        if name not in _EXTRAS or (name == "clusters" and asked.model is not None):
            raise
        facts["not_looked_at"].append({"part": name, "why": str(error)})


def _counting(progress: ProgressReporter, name: str, table: Table, asked: Asked) -> Count:
    sampled = name in _SAMPLED and name != "pairs"  # of which lengths are those of all
    total = min(table.height, asked.sample) if sampled else table.height
    return lambda done: progress.count(name, min(done, total), total)


def forecast_profile(recipe: Recipe, asked: Asked) -> Cost:
    """Time and memory of a profile, by profiles of a few of the first rows of each kind."""
    _check(asked)
    asked, _ = readable(asked)
    with TemporaryDirectory() as folder:
        recipes, _ = by_kind(spool_streams(recipe, Path(folder)))
        return reduce(_sum, [_forecast(one, asked) for one in recipes])


def _sum(one: Cost, other: Cost) -> Cost:
    names = {**one.seconds, **other.seconds}
    return Cost(
        one.rows + other.rows,
        one.counted and other.counted,
        one.trial + other.trial,
        {name: one.seconds.get(name, 0.0) + other.seconds.get(name, 0.0) for name in names},
        max(one.peak_mb, other.peak_mb),
    )


def _forecast(recipe: Recipe, asked: Asked) -> Cost:
    with TemporaryDirectory() as folder:
        rows = source_rows(recipe)
        most = _TRIALS[rows.count >= 10 * _TRIALS[1]]
        sizes = (_FEW, _FEW, min(most, rows.count))
        first, small, large = (
            _timed(recipe, asked, size, Path(folder) / str(at)) for at, size in enumerate(sizes)
        )
        slow = tuple(name for name in PARTS if large.seconds.get(name, 0.0) > _SLOW)
        if slow:  # larger batches need loops that may have been compiled just now
            again = _timed(recipe, replace(asked, parts=slow), sizes[-1], Path(folder) / "again")
            quicker = {name: min(large.seconds[name], again.seconds[name]) for name in slow}
            large = replace(large, seconds={**large.seconds, **quicker})
    seconds = {}
    for name in large.seconds:
        loading = max(0.0, first.seconds.get(name, 0.0) - small.seconds.get(name, 0.0))
        every = min(rows.count, asked.sample) if name in _SAMPLED else rows.count
        seconds[name] = loading + _scaled(name, small, large, every)
    held = large.size / max(large.rows, 1) * rows.count * _MEMORY / 2**20
    return Cost(rows.count, rows.counted, large.rows, seconds, large.peak_mb + held)


@dataclass(frozen=True)
class _Trial:
    """CPU seconds of each part on ``rows`` rows, the size of these in bytes, and the peak."""

    seconds: Mapping[str, float]
    rows: int
    size: int
    peak_mb: float = 0.0

    def looked_at(self, name: str) -> int:
        """The number of rows that a part looked at."""
        return min(self.rows, _SAMPLED.get(name, self.rows))


def _scaled(name: str, small: _Trial, large: _Trial, rows: int) -> float:
    """CPU seconds of a part for so many rows, by the difference of two trials per row."""
    few, many = small.looked_at(name), large.looked_at(name)
    before, after = small.seconds.get(name, 0.0), large.seconds[name]
    if many <= few or after <= before:
        return after / max(many, 1) * rows
    rate = (after - before) / (many - few)
    return max(0.0, before - rate * few) + rate * rows


def _timed(recipe: Recipe, asked: Asked, rows: int, folder: Path) -> _Trial:
    folder.mkdir()
    clock: dict[str, dict[str, float]] = {}
    limit = rows if recipe.limit is None else min(rows, recipe.limit)
    with measured(clock.setdefault("reading", {})):
        table, facts = _read(replace(recipe, limit=limit), folder, _no_count)
    facts["not_looked_at"] = []
    for name, look in _LOOKS.items():
        few = replace(asked, sample=min(asked.sample, _SAMPLED.get(name, rows)))
        with measured(clock.setdefault(name, {})):
            _look(name, look, table, few, _no_count, facts)
    took = {name: one["cpu_seconds"] for name, one in clock.items() if name in {*facts, "reading"}}
    peak = max(one["peak_mb"] for one in clock.values())
    return _Trial(took, table.height, (folder / "rows.parquet").stat().st_size, peak)


def _no_count(done: int) -> None:
    """Receive a count and drop it."""
