"""How sources are read: each with its format, all of one kind, in batches of rows."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import polars as pl

from curate.core.binary import shown
from curate.core.containers import expand, name_parts
from curate.core.detect import SAMPLE, detect, named, renamed
from curate.core.errors import BadRow, DataError, UsageError
from curate.core.part import Part
from curate.core.registry import closest
from curate.core.rows import finish, table_of
from curate.core.schema import Kind, kind_of, schema_of
from curate.core.tabular import parquet_batches
from curate.core.types import Format, Row

__all__ = ["Batch", "Reading", "Source", "plan"]

_ROWS: Final = 8192  # of a batch, and so of a row group
_BYTES: Final = 64 << 20  # of a batch, where rows are long
_LOOKED_AT: Final = 10_000  # records, at most, to find `SAMPLE` good ones


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


def plan(sources: Sequence[str], format: str | None, mapping: Mapping[str, str] | None) -> Reading:
    """Find the parts of ``sources``, the format of each source, and the kind of all.

    Raises:
        UsageError: no source, one given twice, or an unknown format.
        DataError: a source is not data, has no format, or is of another kind than the first.
    """
    if not sources:
        raise UsageError("no source is given; name a file, a folder or a hub dataset")
    found = [expand(source) for source in sources]
    given = iter(name_parts(list(chain.from_iterable(found))))
    renaming, keys = dict(mapping or {}), set[str]()
    read = []
    for source, parts in zip(sources, found, strict=True):
        named_parts = tuple((next(given), part) for part in parts)
        read.append(_source(source, named_parts, format, renaming, keys))
    _all_used(renaming, keys)
    _same_kind(read)
    _ids_apart(read)
    return Reading(read[0].kind, tuple(read), renaming, _schema(read))


_NamedParts = tuple[tuple[str, Part], ...]


def _source(
    given: str, parts: _NamedParts, name: str | None, mapping: dict[str, str], keys: set[str]
) -> Source:
    notes = tuple(note for _, part in parts for note in part.said)
    if any(part.container == "rows" for _, part in parts):
        return _own(given, parts, notes)
    raw = _sample(given, parts)
    keys.update(key for row in raw for key in row)
    rows = [_tried(row, mapping) for row in raw]
    if name is None:
        name, form, count = detect(shown(given), rows)
        how = f"{count} of the first {len(rows)} rows"
    else:
        form = named(name)
        count = sum(form.matches(row) for row in rows)
        how = f"as told; {count} of the first {len(rows)} rows fit"
    said = f"{shown(given)}: {name} ({how})"
    return Source(given, parts, form.kind, name, form, (*notes, said))


def _own(given: str, parts: _NamedParts, notes: tuple[str, ...]) -> Source:
    if len(parts) > 1:
        raise DataError(f"{shown(given)} holds tables of ours beside others; name them one by one")
    path = parts[0][1].paths[0]
    kinds = pl.read_parquet(path, columns=["kind"])
    if kinds.is_empty():
        raise DataError(f"{shown(given)}: no row can be read; it holds none")
    kind, own = kind_of(kinds), pl.read_parquet_schema(path)
    for column, dtype in schema_of(kind).items():
        if own.get(column) != dtype:
            found = own.get(column, "no such column")
            raise DataError(
                f"{shown(given)} looks like a table of ours, but {column!r} is {found}; expected "
                f"{dtype}: ingest the raw rows again"
            )
    said = f"{shown(given)}: rows of ours ({kind}), passed on as they are"
    return Source(given, parts, kind, "rows", None, (*notes, said))


def _sample(given: str, parts: _NamedParts) -> list[Row]:
    """The first good records.

    Raises:
        DataError: there is none; the text says what was wrong with the first.
    """
    rows: list[Row] = []
    wrong = ""
    records = chain.from_iterable(_numbered(part) for _, part in parts)
    for where, raw in islice(records, _LOOKED_AT):
        if isinstance(raw, BadRow):
            wrong = wrong or f"{where}: {raw}"
        else:
            rows.append(raw)
        if len(rows) == SAMPLE:
            break
    if not rows:
        raise DataError(f"{shown(given)}: no row can be read; {wrong or 'it holds none'}")
    return rows


def _numbered(part: Part) -> Iterator[tuple[str, Row | BadRow]]:
    for number, raw in part.records():
        yield f"{shown(part.shown)}, {part.unit} {number}", raw


def _tried(raw: Row, mapping: dict[str, str]) -> Row:
    try:
        return renamed(raw, mapping)
    except BadRow:
        return raw


def _all_used(mapping: dict[str, str], keys: set[str]) -> None:
    for key in mapping:
        if key not in keys:
            there = tuple(sorted(keys))
            raise UsageError(
                f"no row has the key {key!r} that is to be renamed; {closest(key, there)}"
            )


def _ids_apart(sources: Sequence[Source]) -> None:
    """No row of a table of ours has the id of another row."""
    raw = {name for source in sources if source.format is not None for name, _ in source.parts}
    seen = pl.DataFrame(schema={"id": pl.String})
    for source in sources:
        if source.format is None:
            ids = pl.read_parquet(source.parts[0][1].paths[0], columns=["id", "source"])
            both = ids.filter(pl.col("source").is_in(list(raw))).select("id")
            both.extend(ids.select("id").join(seen, on="id"))
            if both.height:
                raise DataError(
                    f"{shown(source.given)} holds the id {both['id'][0]}, which another source "
                    "gives too: rename that source, or ingest the raw files together"
                )
            seen.extend(ids.select("id"))


def _same_kind(sources: Sequence[Source]) -> None:
    first = sources[0]
    for other in sources:
        if other.kind != first.kind:
            raise DataError(
                f"{shown(other.given)} gives {other.kind} rows ({other.format_name}), but "
                f"{shown(first.given)} gives {first.kind} rows ({first.format_name}): "
                "one table has one kind, ingest them apart"
            )


def _schema(sources: Sequence[Source]) -> Mapping[str, pl.DataType]:
    """The columns of all rows: scores stay where every source is one table of ours with them."""
    kind = sources[0].kind
    if any(source.format is not None for source in sources):
        return schema_of(kind)
    own = [pl.read_parquet_schema(source.parts[0][1].paths[0]) for source in sources]
    if all(schema == own[0] for schema in own):
        return own[0]
    return schema_of(kind)
