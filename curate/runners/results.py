"""What a run leaves: the rows that were kept, and one final decision for every row that came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from siftune.curate.files.atomic import aside
from siftune.curate.rows.table import ROW, Table

__all__ = ["LEDGER", "Groups", "read_quarantine", "write_kept", "write_ledger"]

LEDGER: Final = pl.Schema(
    {
        "id": pl.String,
        "source": pl.String,
        "stage": pl.String,
        "decision": pl.String,  # kept | dropped | quarantined
        "reason": pl.String,
        "detail": pl.String,
    }
)
_ROWS: Final = 1 << 15  # of a row group
_BYTES: Final = 64 << 20  # of a row group, where rows are long
_PARQUET: Final[Mapping[str, Any]] = {
    "compression": "zstd",
    "compression_level": 1,  # a quarter larger than level 3 on text, and half as dear
    "write_page_checksum": True,
}
_ALL_DIFFER: Final = ("id", "row", "digest", "extra", ROW)  # a dictionary would be as long


class Groups:
    """A parquet file whose row groups depend on the rows, not on how they came.

    With ``most_bytes`` a group also ends after what is written at a time, once it is that large.
    """

    def __init__(self, path: Path, most_bytes: int | None = None) -> None:
        self._path, self._most_bytes = path, most_bytes
        self._file: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> Self:
        return self

    def write(self, rows: pl.DataFrame | pa.Table) -> None:
        """Add rows; where they fill a group it goes to disk."""
        if isinstance(rows, pl.DataFrame):
            rows = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        self._waiting.append(rows)
        while sum(part.num_rows for part in self._waiting) >= _ROWS:
            whole = pa.concat_tables(self._waiting)
            self._waiting = [whole[_ROWS:]]
            self._group(whole[:_ROWS])
        size = sum(part.nbytes for part in self._waiting)
        if self._most_bytes is not None and size >= self._most_bytes:
            self._group(pa.concat_tables(self._waiting))
            self._waiting = []

    def _group(self, rows: pa.Table) -> None:
        if self._file is None:
            self._file = pq.ParquetWriter(
                self._path, rows.schema, use_dictionary=_repeating(rows.schema), **_PARQUET
            )
        if rows.num_rows:
            self._file.write_table(rows.combine_chunks())  # where chunks end tells in the pages

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        try:
            if error is None and self._waiting:
                self._group(pa.concat_tables(self._waiting))
        finally:
            if self._file is not None:
                self._file.close()


def _repeating(schema: pa.Schema) -> list[str]:
    """Columns whose values come again and again: names, whole numbers, roles; never a text."""
    plain = [
        f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_large_string(f.type)
    ]
    return [*(name for name in plain if name not in _ALL_DIFFER), "messages.list.element.role"]


def write_kept(path: Path, table: Table) -> None:
    """Write the rows left with all their columns and scores, a part at a time."""
    with aside(path) as part, Groups(part, _BYTES) as groups:
        for rows in table.arrow():
            groups.write(rows)
        if not len(table.alive):
            groups.write(table.gather(table.columns).select(table.columns))


def write_ledger(
    path: Path, rows: Path, decisions: Sequence[tuple[str, Path]], quarantine: Path
) -> None:
    """Write the last word on each row, in the order the rows came; quarantined rows at the end.

    A row is decided on by every selector until one drops it. So what each dropped, and all that the
    last of them saw, are the rows once each: they are put in order, nothing is joined.

    Raises:
        ValueError: some row has no last word, or two; a stage file is not what it should be.
    """
    words = [_dropped(label, path) for label, path in decisions[:-1]]
    words.append(_words(*decisions[-1]) if decisions else _read(rows))
    last = pl.concat(words)
    order = last[ROW].arg_sort().to_numpy()
    if not np.array_equal(last[ROW].to_numpy()[order], np.arange(pq.read_metadata(rows).num_rows)):
        raise ValueError(f"{path.parent}: not every row has one last word")
    sources = pl.read_parquet(rows, columns=["source"], glob=False)["source"]
    final = last[order].with_columns(sources).select(list(LEDGER)).cast(LEDGER)
    final = pl.concat([final, _quarantined(quarantine)])
    with aside(path) as part:
        final.write_parquet(part, compression="zstd", compression_level=1)


def read_quarantine(path: Path) -> pl.DataFrame:
    """The quarantine list as a table; a row's number stands in ``line`` or in ``row``."""
    names = ("source", "line", "row", "id", "reason", "detail")
    schema = dict.fromkeys(names, pl.String) | {"line": pl.Int64, "row": pl.Int64}
    parts = [pl.DataFrame(schema=schema)]
    with path.open("rb") as stream:
        while lines := list(islice(stream, _ROWS)):  # as Python's objects a line is a kilobyte
            records = map(orjson.loads, lines)
            listed = [{name: record.get(name) for name in names} for record in records]
            parts.append(pl.DataFrame(listed, schema=schema))
    return pl.concat(parts)


def _words(label: str, decided: Path) -> pl.DataFrame:
    word = pl.when("keep").then(pl.lit("kept")).otherwise(pl.lit("dropped"))
    columns = (ROW, "id", pl.lit(label).alias("stage"), word.alias("decision"), "reason", "detail")
    return pl.read_parquet(decided, glob=False).select(columns)


def _dropped(label: str, decided: Path) -> pl.DataFrame:
    return _words(label, decided).filter(pl.col("decision") == "dropped")


def _read(rows: Path) -> pl.DataFrame:
    """The rows of a run without a selector: all are kept."""
    ids = (
        pl.read_parquet(rows, columns=["id"], glob=False).with_row_index(ROW).cast({ROW: pl.Int64})
    )
    return ids.with_columns(
        stage=pl.lit("ingest"),
        decision=pl.lit("kept"),
        reason=pl.lit("read"),
        detail=pl.lit(None, pl.String),
    )


def _quarantined(quarantine: Path) -> pl.DataFrame:
    listed = read_quarantine(quarantine).with_columns(
        stage=pl.lit("ingest"), decision=pl.lit("quarantined")
    )
    return listed.select(list(LEDGER)).cast(LEDGER)
