"""How sources are read: each with its format, all of one kind, in batches of rows."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

import polars as pl

from curate.core.detect import renamed
from curate.core.errors import BadRow
from curate.core.part import Part
from curate.core.rows import finish, table_of
from curate.core.schema import Kind
from curate.core.tabular import parquet_batches
from curate.core.types import Format, Row

__all__ = ["Batch", "Reading", "Source"]

_ROWS: Final = 8192  # of a batch, and so of a row group
_BYTES: Final = 64 << 20  # of a batch, where rows are long


@dataclass(frozen=True)
class Source:
    """One source as given: its parts, their names, and the format of its records.

    ``format`` is null for a table of ours, which is passed on as it is.
    """

    given: str
    parts: tuple[tuple[str, Part], ...]
    kind: Kind
    format_name: str
    format: Format | None
    said: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """Rows that ``taken`` of ``records`` gave, and the quarantine lines of the others."""

    table: pl.DataFrame
    bad: list[Row]
    records: int
    taken: int


@dataclass(frozen=True)
class Reading:
    """Sources of one kind, ready to be read from their beginning, any number of times."""

    kind: Kind
    sources: tuple[Source, ...]
    mapping: Mapping[str, str]
    schema: Mapping[str, pl.DataType]

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        """The rows in input order; at least one batch, so that an empty table has columns."""
        pending = _Pending(self.kind, self.mapping)
        for source in self.sources:
            for name, part in source.parts:
                left = None if limit is None else max(0, limit - pending.total)
                if source.format is None:
                    found = self._tables(pending, part, left)
                else:
                    found = pending.read(source.format, name, part, left)
                yield from map(self._fitted, found)
        yield self._fitted(pending.flush())

    def _tables(self, pending: _Pending, part: Part, limit: int | None) -> Iterator[Batch]:
        yield pending.flush()
        left = sys.maxsize if limit is None else limit
        for batch in parquet_batches(part.paths[0], _ROWS):
            table = pl.DataFrame(pl.from_arrow(batch)).head(left)
            left -= table.height
            pending.total += table.height
            yield Batch(table, [], table.height, table.height)

    def _fitted(self, batch: Batch) -> Batch:
        lacking = [pl.lit(None).alias(name) for name in self.schema if name not in batch.table]
        table = batch.table.with_columns(lacking).select(list(self.schema))
        table = table.cast(pl.Schema(self.schema))
        return Batch(table, batch.bad, batch.records, batch.taken)


class _Pending:
    """Rows and quarantine lines that make the next batch; ``total`` counts records of all."""

    def __init__(self, kind: Kind, mapping: Mapping[str, str]) -> None:
        self._kind, self._mapping, self.total = kind, mapping, 0
        self._start()

    def read(self, form: Format, name: str, part: Part, limit: int | None) -> Iterator[Batch]:
        """The full batches that the records of ``part`` complete."""
        unit = part.unit
        for number, raw in islice(part.records(), limit):
            self.total += 1
            try:
                self._take(form, name, number, raw)
                self._taken += 1
            except BadRow as bad:
                self._bad.append(_quarantined(bad, name, unit, number))
            if len(self._rows) + len(self._bad) >= _ROWS or self._bytes >= _BYTES:
                yield self.flush()

    def flush(self) -> Batch:
        """What has come together since the last batch."""
        records = self._taken + len(self._bad)
        batch = Batch(table_of(self._kind, self._rows), self._bad, records, self._taken)
        self._start()
        return batch

    def _start(self) -> None:
        self._rows: list[Row] = []
        self._bad: list[Row] = []
        self._taken = self._bytes = 0

    def _take(self, form: Format, name: str, number: int, raw: Row | BadRow) -> None:
        if isinstance(raw, BadRow):
            raise raw
        made = list(form.read(renamed(raw, self._mapping) if self._mapping else raw))
        for at, row in enumerate(made, 1):
            self._bytes += finish(
                row, self._kind, name, number, f"{number}.{at}" if form.many else f"{number}"
            )
        self._rows += made


def _quarantined(bad: BadRow, name: str, unit: str, number: int) -> Row:
    row: Row = {"source": name, unit: number, "id": f"{name}:{number}"}
    return row | {"reason": bad.reason, "detail": bad.detail}
