"""Forecast of a run: rows and CPU seconds of each stage, and what each figure is based on.

A stage's rate is that of an earlier run, where this folder or one beside it holds the manifest of
a run with the same stage on enough rows; else it is timed on the first rows of the source, which
are read and processed in a temporary folder. A score under a model is timed alone, on fewer rows.
What reads a reference, adds to an index, or needs what such a stage adds is not timed: it has no
rate before its first run.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from siftune.curate.io.file_part import Part
from siftune.curate.io.source_parts import expand
from siftune.curate.runners.plan import Plan, Step
from siftune.curate.runners.timing import (
    PriorStage,
    Sampled,
    Trial,
    loads_model,
    models_tried,
    prior_stages,
    sampled,
)
from siftune.curate.runs.recipe import Recipe, Spec, component

__all__ = ["Forecast", "Records", "Seconds", "forecast", "forecast_lines", "records", "source_rows"]

Seconds: TypeAlias = tuple[float, float]
"""Lowest and highest."""

_TENTH: Final = 10  # a run on a smaller share measures what is loaded more than the rows
_FEW: Final = 1_000  # rows, of which a run is comparable to at most twice as many
_LEAST, _MOST = 0.7, 1.5  # of a rate: the other rows may differ, and so may the load here
_MODEL_ROWS: Final = 1_000  # rows from which on a stage that loads a model is timed
_GROWTH: Final = 0.15  # a selector's seconds a row grow as the rows to this power, if it is quick
_COUNTED: Final = 64 << 20  # bytes of lines that are counted, not estimated
_PROBE: Final = 1 << 18  # bytes read at each place of a longer file
_PROBES: Final = 16
_HEAD: Final = 4 << 20  # bytes read of a file that can only be read from its beginning
_READ: Final = 1 << 14  # bytes that a decompressor takes at a time
_DAMAGED: Final = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError)
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SLACK: Final = 1.5  # at most so many times the expected rows are kept


@dataclass(frozen=True)
class Forecast:
    """One stage: its input rows, and its CPU seconds; None where they are unknown.

    ``asking`` are lines on the calls of an LLM judge that it takes.
    """

    label: str
    rows: Records
    at_most: bool  # earlier selectors may leave fewer rows
    seconds: Seconds | None
    how: str
    asking: tuple[str, ...] = ()


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
    given = rows if timed is None or plan.ingested else _rows_of(rows, timed)
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


def _rows_of(records: Records, timed: Sampled) -> Records:
    """The rows that so many records give, by the trials."""
    rows = timed.rows_of(records.count)
    return records if rows is None else Records(rows, counted=False)


def _is_comparable(before: PriorStage, rows: int) -> bool:
    """Whether the time of an earlier run depends on its rows more than on its fixed cost."""
    times = _TENTH if before.rows >= _FEW else 2
    return before.rows * times >= rows


def forecast_lines(forecasts: Sequence[Forecast], least: float = 0.0) -> list[str]:
    """The forecasts as lines, the sum last; none below ``least`` CPU seconds."""
    low, high = (sum(one.seconds[i] for one in forecasts if one.seconds) for i in (0, 1))
    asking = [line for one in forecasts for line in one.asking]
    if high <= least:
        return asking
    lines = [_line(one) for one in forecasts]
    unknown = [one.label for one in forecasts if one.seconds is None]
    more = f", and what {', '.join(unknown)} will take" if unknown else ""
    return [*lines, f"  {'in all':<20} {_span((low, high)):>48}{more}", *asking]


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
class Records:
    """A number of records, and whether it was counted or estimated."""

    count: int
    counted: bool


def records(parts: Iterable[Part]) -> Records:
    """Number of records in all parts, with blank lines and lines that cannot be read."""
    found = [_records(part) for part in parts]
    return Records(sum(one.count for one in found), all(one.counted for one in found))


def _records(part: Part) -> Records:
    if part.container in ("parquet", "rows"):
        return Records(int(pq.read_metadata(part.paths[0]).num_rows), counted=True)
    if part.container == "arrow":
        return Records(sum(map(_arrow_rows, part.paths)), counted=True)
    path = part.paths[0]
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if part.container == "lines" and not magic.startswith((_GZIP, _ZSTD)):
            return _lines(file, part.size)
        try:
            text = _expanded(file, magic).read(_HEAD)
        except _DAMAGED:
            return Records(0, counted=False)  # the error comes when the file is read
        whole = len(text) < _HEAD
        share = 1.0 if whole else min(1.0, file.tell() / part.size)
    count = _COUNTS[part.container](text, whole)
    return Records(round(count / share), counted=whole)


def _arrow_rows(path: Path) -> int:
    with pa.memory_map(str(path)) as file:
        return sum(batch.num_rows for batch in pa.ipc.open_stream(file))


def _expanded(file: IO[bytes], magic: bytes) -> IO[bytes]:
    if magic.startswith(_GZIP):
        short: Any = _ShortReads(file)
        return gzip.GzipFile(fileobj=short)  # type: ignore[return-value]
    if magic.startswith(_ZSTD):
        library = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        return library.stream_reader(file, _READ, read_across_frames=True, closefd=False)
    return file


@dataclass(frozen=True)
class _ShortReads:
    """A file read a little at a time, so that its position shows what was decompressed.

    From Python 3.12 on `gzip` takes 128 KiB at once, often far more than the text needed.
    """

    file: IO[bytes]

    def read(self, size: int = _READ) -> bytes:
        """The next bytes, ``size`` at most."""
        return self.file.read(min(size, _READ) if size >= 0 else _READ)


def _lines(file: IO[bytes], size: int) -> Records:
    if size <= _COUNTED:
        count, last = 0, b"\n"
        while text := file.read(_HEAD):
            count, last = count + text.count(b"\n"), text[-1:]
        return Records(count + (last != b"\n"), counted=True)
    ends = 0
    for probe in range(_PROBES):
        file.seek((size - _PROBE) * probe // (_PROBES - 1))
        ends += file.read(_PROBE).count(b"\n")
    return Records(round(ends / (_PROBE * _PROBES) * size), counted=False)


def _text_lines(text: bytes, whole: bool) -> float:
    return text.count(b"\n") + (whole and not text.endswith(b"\n"))


def _csv_rows(text: bytes, whole: bool) -> float:
    """Rows after the header; a cell may hold line ends."""
    rows = sum(1 for row in csv.reader(text.decode(errors="replace").splitlines(True)) if row)
    return max(0, rows - 1)


def _values(text: bytes, whole: bool) -> float:
    """Number of objects, by the key that the first one begins with."""
    begin, end = text.find(b'"'), text.find(b'":')
    key: Any = text[begin : end + 1] if 0 <= begin < end else b"{"
    return text.count(key)


_COUNTS: Final = {"lines": _text_lines, "csv": _csv_rows, "values": _values}
