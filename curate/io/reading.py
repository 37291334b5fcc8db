"""Reading of sources in batches of rows, each source with its format, all of one kind."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Format, Row
from siftune.curate.io.file_part import Part
from siftune.curate.io.tabular import parquet_batches
from siftune.curate.records.json_lines import lines, parse
from siftune.curate.records.layout import BESIDE, Layout, refuse_media, with_system
from siftune.curate.records.map_advice import renamed
from siftune.curate.records.message_trees import trees
from siftune.curate.rows.convert import fill_margin, finish, table_of

if TYPE_CHECKING:
    from siftune.curate.native.jsonl.read_blocks import BlockRows

__all__ = ["Batch", "Reading", "Source"]

_ROWS: Final = 8192  # of a batch that is read record by record
_BYTES: Final = 64 << 20  # of a batch, where rows are long
_BLOCKS: Final = 52 << 20  # bytes that are read in the time that numba and its loops take to load
_LINE: Final = 2000  # bytes that are read in the time that a line takes besides
_SHORT: Final = 12  # bytes of a line; no row of any format has fewer
_LOADED: Final = 4  # the threshold is divided by this where numba is loaded already


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
    notes: tuple[str, ...]
    mapping: Mapping[str, str] = field(default_factory=dict)  # new names of raw keys
    flat: bool = False  # its records are messages, to be put together to trees


@dataclass(frozen=True)
class Batch:
    """Rows of ``taken`` of ``records`` records, and the quarantine lines of the others.

    The rows are an Arrow table, as they are read and written. ``sizes`` are the bytes of each row,
    the same however it was read.
    """

    table: pa.Table
    bad: list[Row]
    records: int
    taken: int
    sizes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """Sources of one kind, ready to be read from their beginning, any number of times."""

    kind: Kind
    sources: tuple[Source, ...]
    schema: Mapping[str, pl.DataType]

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        """The rows in input order; at least one batch, so that an empty table has columns."""
        pending = _Pending(self.kind)
        for source in self.sources:
            pending.mapping, pending.flat = source.mapping, source.flat
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
            height = table.height
            left -= height
            pending.total += height
            each = int(table.estimated_size()) // max(height, 1)
            yield Batch(_arrow(table), [], height, height, np.full(height, each))

    def _fitted(self, batch: Batch) -> Batch:
        if batch.table.schema == self._arrow_schema:
            return batch
        table = pl.DataFrame(pl.from_arrow(batch.table))
        known = {one.name for one in table if one.null_count() < len(one)}
        lacking = [pl.lit(None).alias(name) for name in self.schema if name not in known]
        table = table.with_columns(lacking).select(list(self.schema))
        return replace(batch, table=_arrow(table.cast(pl.Schema(self.schema))))

    @cached_property
    def _arrow_schema(self) -> pa.Schema:
        return _arrow(pl.DataFrame(schema=self.schema)).schema


def _arrow(table: pl.DataFrame) -> pa.Table:
    return table.to_arrow(compat_level=pl.CompatLevel.oldest())


class _Pending:
    """Rows and quarantine lines of the next batch; ``total`` counts the records of all batches.

    ``mapping`` and ``flat`` are those of the source which is read.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind, self.total = kind, 0
        self.mapping: Mapping[str, str] = {}
        self.flat = False
        self._start()

    def read(self, form: Format, name: str, part: Part, limit: int | None) -> Iterator[Batch]:
        """The full batches that the records of ``part`` complete."""
        layout: Layout | None = getattr(form, "layout", None)
        known = layout is not None and layout.keys() >= {*self.mapping.values()}
        if layout and known and part.container == "lines":
            with part.line_stream() as (stream, end):
                if end == b"\n" and _many(part.size, stream.peek()) and _has_compiled_reader():
                    yield self.flush()
                    yield from self._blocks(stream, form, layout, name, limit)
                    return
        records = trees(self._renamed(part)) if self.flat else part.records()
        for number, raw in islice(records, limit):
            self._add(form, name, part.unit, number, raw)
            if len(self._rows) + len(self._bad) >= _ROWS or self._bytes >= _BYTES:
                yield self.flush()

    def _renamed(self, part: Part) -> Iterator[tuple[int, Row | BadRow]]:
        for number, raw in part.records():
            try:
                yield number, raw if isinstance(raw, BadRow) else renamed(raw, self.mapping)
            except BadRow as bad:
                yield number, bad

    def _blocks(
        self, stream: BinaryIO, form: Format, layout: Layout, name: str, limit: int | None
    ) -> Iterator[Batch]:
        """The records of a line file, block by block: plain lines as columns, odd ones as ever."""
        from siftune.curate.native.jsonl.blocks import blocks  # numba takes 0.3 s
        from siftune.curate.native.jsonl.read_blocks import read_block

        end = None if limit is None else self.total + limit
        for block in blocks(stream):
            left = None if end is None else end - self.total
            if left == 0:
                return
            if block.wrong is not None:
                self._add(form, name, "line", block.first, block.wrong)
                continue
            if block.lines * _SHORT > block.size:  # odd ones, too many to hold at a time
                short = io.BufferedReader(io.BytesIO(block.data[: block.size].tobytes()))
                yield from self._line_by_line(short, block.first, form, name, left)
                continue
            plain = read_block(block, form.kind, layout, name, left, self.mapping)
            self.total += plain.table.num_rows
            for number, text in plain.odd:
                self._add(form, name, "line", number, _parsed(text))
            yield _merged(plain, self.flush() if self._rows or self._bad else None)

    def _line_by_line(
        self, text: BinaryIO, first: int, form: Format, name: str, limit: int | None
    ) -> Iterator[Batch]:
        for number, line in islice(lines(text), limit):
            self._add(form, name, "line", first + number - 1, _parsed(line))
            if len(self._rows) + len(self._bad) >= _ROWS:
                yield self.flush()

    def _add(self, form: Format, name: str, unit: str, number: int, raw: Row | BadRow) -> None:
        self.total += 1
        try:
            self._take(form, name, number, raw)
            self._taken += 1
        except BadRow as bad:
            self._bad.append(_quarantined(bad, name, unit, number))

    def flush(self) -> Batch:
        """The rows and lines collected since the last batch."""
        records = self._taken + len(self._bad)
        sizes = np.array(self._sizes, np.int64)
        table = table_of(self._kind, self._rows)
        batch = Batch(table, self._bad, records, self._taken, sizes)
        self._start()
        return batch

    def _start(self) -> None:
        self._rows: list[Row] = []
        self._bad: list[Row] = []
        self._sizes: list[int] = []
        self._taken = self._bytes = 0

    def _take(self, form: Format, name: str, number: int, raw: Row | BadRow) -> None:
        if isinstance(raw, BadRow):
            raise raw
        record = renamed(raw, self.mapping) if self.mapping else raw
        refuse_media(record)
        made = list(form.read(record))
        for at, row in enumerate(made, 1):
            if not record.keys().isdisjoint(BESIDE):
                with_system(row, form.kind)
            if self._kind == "preference":
                fill_margin(row)
            place = f"{number}.{at}" if form.many else f"{number}"
            size = finish(row, self._kind, name, number, place)
            self._sizes.append(size)
            self._bytes += size
        self._rows += made


def _many(size: int, head: bytes) -> bool:
    """Whether blocks are faster than single lines for a file of ``size`` bytes and such lines."""
    lines = size * head.count(b"\n") / max(len(head), 1)
    return (size + _LINE * lines) * (_LOADED if "numba" in sys.modules else 1) >= _BLOCKS


def _has_compiled_reader() -> bool:
    """Whether blocks are read by compiled loops: as plain Python these are slower than rows."""
    from siftune.curate.native.jit import PLAIN_REASON  # numba takes 0.3 s

    return PLAIN_REASON is None


def _parsed(text: bytes | BadRow) -> Row | BadRow:
    if isinstance(text, BadRow):
        return text
    try:
        return parse(text)
    except BadRow as bad:
        return bad


def _merged(plain: BlockRows, odd: Batch | None) -> Batch:
    """The rows of plain and of other lines, in the order of their lines."""
    height = plain.table.num_rows
    if odd is None:
        return Batch(plain.table, [], height, height, plain.sizes)
    whole = Batch(plain.table, odd.bad, height + odd.records, height + odd.taken, plain.sizes)
    if not odd.table.num_rows:
        return whole
    table = pl.DataFrame(pl.from_arrow(pa.concat_tables([plain.table, odd.table])))
    order = np.argsort(table["row"].to_numpy(), kind="stable")
    sizes = np.concatenate([plain.sizes, odd.sizes])[order]
    return replace(whole, table=_arrow(table[order]), sizes=sizes)


def _quarantined(bad: BadRow, name: str, unit: str, number: int) -> Row:
    row: Row = {"source": name, unit: number, "id": f"{name}:{number}"}
    return row | {"reason": bad.reason, "detail": bad.detail}
