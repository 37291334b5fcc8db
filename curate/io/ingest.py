"""Ingestion: every raw record becomes a row of the table, or a line of the quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from siftune.curate.core.errors import DataError
from siftune.curate.core.types import Row
from siftune.curate.files.atomic import atomic_write
from siftune.curate.files.source_spec import Pairing, SourceSpec, in_caller_syntax
from siftune.curate.io.reading import Batch, Reading
from siftune.curate.io.sources import plan

__all__ = ["Ingested", "SetAside", "ingest", "read_rows"]

_ROWS: Final = 1 << 15  # of a row group
_BYTES: Final = 64 << 20  # of a row group, where rows are long
_MOST_ASIDE: Final = 1_000_000  # rows set aside before a source must have given enough others
_LEAST_TAKEN: Final = 100  # the rows set aside for one that is taken, beyond that
_PARQUET: Final[Mapping[str, Any]] = {
    "compression": "none",  # lz4 leaves 0.7 of a text, and is slower than the rest of a stage
    "write_page_checksum": True,
    "use_dictionary": ["source", "kind", "messages.list.element.role"],
}


@dataclass(frozen=True)
class Ingested:
    """Result of `ingest`.

    ``rows_in`` records were read; ``taken`` of them gave the ``kept`` rows (one each, except
    trees), ``quarantined`` gave none: ``rows_in == taken + quarantined``.
    """

    kind: str
    format: Mapping[str, str]  # of each source as given
    rows_in: int
    taken: int
    kept: int
    quarantined: int
    inputs: tuple[Mapping[str, Any], ...]  # path as given, bytes
    said: tuple[str, ...]


def ingest(
    sources: Sequence[str],
    out: Path,
    *,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    given: Mapping[str, SourceSpec] | None = None,
    pairs: Pairing | None = None,
) -> Ingested:
    """Read every record of ``sources`` into ``out/rows.parquet`` or ``out/quarantine.jsonl``.

    Both files appear whole or not at all. Memory is bounded by a batch of rows.

    Args:
        sources: what `writers.expand` takes.
        out: folder, made if missing.
        format: name of the format of all sources; none: each is detected and noted in ``said``.
        mapping: new names of raw keys, applied before detection.
        limit: the most records to read, over all sources in order.
        progress: called with the number of records read so far, now and then.
        given: sources with a format and a mapping of their own.
        pairs: which pairs are made of ranked lists; none leaves these as they are.

    Raises:
        UsageError: unknown format, or a source given twice.
        DataError: a source that cannot be read, has no format, or is of another kind; no record
            gave a row, or of over a million fewer than one in a hundred.
    """
    reading = plan(sources, format, mapping, given, pairs)
    counts = _Counts()
    with ExitStack() as stack:
        rows = stack.enter_context(atomic_write(out / "rows.parquet"))
        quarantine = stack.enter_context(atomic_write(out / "quarantine.jsonl"))
        lines = stack.enter_context(quarantine.open("wb"))
        writer = stack.enter_context(_Writer(rows))
        for batch in reading.batches(limit):
            counts.add(batch)
            writer.write(batch)
            lines.writelines(orjson.dumps(bad) + b"\n" for bad in batch.bad)
            if progress is not None and counts.rows_in:  # the first batch may be empty
                progress(counts.rows_in)
        counts.refuse_none()
    return counts.result(reading)


def read_rows(
    source: str | Path,
    *,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """The rows of one source in memory, and the quarantine lines of records without a row.

    A run folder means its ``kept.parquet``; a table of ours keeps its ids and score columns.

    Raises:
        UsageError: unknown format.
        DataError: the source cannot be read, has no format, or none of its records gave a row.
    """
    batches, counts = [], _Counts()
    for batch in plan([str(source)], format, mapping).batches(limit):
        counts.add(batch)
        batches.append(batch)
    counts.refuse_none()
    table = pl.from_arrow(pa.concat_tables([batch.table for batch in batches]), rechunk=True)
    return pl.DataFrame(table), [bad for batch in batches for bad in batch.bad]


class _Counts:
    def __init__(self) -> None:
        self.rows_in = self.taken = self.kept = self.quarantined = 0
        self._aside = SetAside()

    def add(self, batch: Batch) -> None:
        """Count the rows of a batch.

        Raises:
            DataError: hardly any of many rows is read; a small packed file may hold millions.
        """
        self._aside.add(batch.bad)
        self.rows_in += batch.records
        self.taken += batch.taken
        self.kept += batch.table.num_rows
        self.quarantined += len(batch.bad)
        if self.quarantined > max(_MOST_ASIDE, _LEAST_TAKEN * self.taken):
            raise DataError(in_caller_syntax(self._hardly_any()))

    def _hardly_any(self) -> str:
        return (
            f"of the first {self.rows_in:,} rows {self.quarantined:,} are set aside: "
            f"{self._aside.reasons()}; give the format or the keys that fit most rows, or leave "
            "out the files that are no data"
        )

    def refuse_none(self) -> None:
        """Check that some record gave a row.

        Raises:
            DataError: all were set aside; the text has the commonest reasons.
        """
        if self.rows_in and not self.kept:
            count = f"all {self.rows_in:,} rows are" if self.rows_in > 1 else "its one row is"
            problem = f"no row can be read; {count} set aside: {self._aside.reasons()}"
            raise DataError(in_caller_syntax(problem))

    def result(self, reading: Reading) -> Ingested:
        parts = [part for source in reading.sources for _, part in source.parts]
        return Ingested(
            kind=reading.kind,
            format={source.given: source.format_name for source in reading.sources},
            rows_in=self.rows_in,
            taken=self.taken,
            kept=self.kept,
            quarantined=self.quarantined,
            inputs=tuple({"path": part.shown, "bytes": part.size} for part in parts),
            said=(*(line for source in reading.sources for line in source.notes), *self._said()),
        )

    def _said(self) -> list[str]:
        count = f"{self.quarantined:,} of {self.rows_in:,} rows set aside"
        return [in_caller_syntax(f"{count}: {self._aside.reasons()}")] if self.quarantined else []


class _Writer:
    """A parquet file whose row groups depend on the rows alone, not on how they were read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: pq.ParquetWriter | None = None
        self._tables: list[pa.Table] = []
        self._sizes = np.zeros(0, np.int64)

    def __enter__(self) -> Self:
        return self

    def write(self, batch: Batch) -> None:
        """Add rows; each full group is written to disk."""
        self._tables.append(batch.table)
        self._sizes = np.concatenate([self._sizes, batch.sizes])
        table, start = None, 0
        while (height := _full_group(self._sizes[start:])) is not None:
            table = pa.concat_tables(self._tables) if table is None else table
            self._group(table[start : start + height])
            start += height
        if table is not None:
            self._tables, self._sizes = [table[start:]], self._sizes[start:]

    def _group(self, table: pa.Table) -> None:
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, table.schema, **_PARQUET)
        if table.num_rows:
            self._file.write_table(table.combine_chunks())  # pages depend on where chunks end

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        try:
            if error is None:
                self._group(pa.concat_tables(self._tables))
        finally:
            if self._file is not None:
                self._file.close()


def _full_group(sizes: npt.NDArray[np.int64]) -> int | None:
    """The number of first rows that fill a row group; None if they do not."""
    enough = min(int(np.searchsorted(np.cumsum(sizes[:_ROWS]), _BYTES)) + 1, _ROWS)
    return enough if enough <= len(sizes) else None


_REASONS: Final = 3
_DETAIL: Final = 320  # characters of an example: advice is not cut


class SetAside:
    """Counts quarantine lines by reason."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, Row] = {}

    def add(self, bad: Iterable[Row]) -> None:
        """Count the lines ``bad``; the first line of each reason is its example."""
        for line in bad:
            self._counts[line["reason"]] += 1
            self._examples.setdefault(line["reason"], line)

    def reasons(self) -> str:
        """The most frequent reasons in one line, each with its number and first example."""
        common = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        named = [f"{n:,} {reason} ({_shown(self._examples[reason])})" for reason, n in common]
        rest = sum(n for _, n in common[_REASONS:])
        return "; ".join(named[:_REASONS]) + (f"; {rest:,} for other reasons" if rest else "")


def _shown(line: Row) -> str:
    unit = "line" if "line" in line else "row"
    detail = " ".join(line["detail"].split())
    short = detail if len(detail) <= _DETAIL else f"{detail[: _DETAIL - 1]}…"
    return f"{line['source']}, {unit} {line[unit]}: {short}"
