"""A reference that rows are held against: rows of another source, none of which may be lost."""

from __future__ import annotations

import polars as pl

from curate.core.errors import DataError
from curate.core.readers.ingest import read_rows
from curate.core.schema import schema_of

__all__ = ["held_out"]


def held_out(against: str | None) -> pl.DataFrame:
    """The rows of any source that `read_rows` takes; no rows where there is no reference.

    Raises:
        DataError: it cannot be read, or some of its records cannot.
    """
    if against is None:
        return pl.DataFrame(schema=schema_of("text"))
    table, bad = read_rows(against)
    if bad:
        raise DataError(
            f"{against}: {len(bad)} records of the reference cannot be read, the first for "
            f"{bad[0]['reason']}; run `siftune curate ingest` on it and name its rows.parquet"
        )
    return table
