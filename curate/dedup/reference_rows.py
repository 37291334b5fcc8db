"""A reference that rows are held against: rows of another source, none of which may be lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import schema_of
from siftune.curate.core.types import Row
from siftune.curate.files.source_spec import SourceOption, SourceSpec, in_recipe
from siftune.curate.io.ingest import read_rows
from siftune.curate.io.sources import plan

__all__ = ["check_against", "held_out", "read_reference", "reference_schema"]


def held_out(against: SourceOption | None) -> pl.DataFrame:
    """The rows of a reference; no rows where there is none.

    Raises:
        DataError: it cannot be read, or some of its records cannot.
    """
    if against is None:
        return pl.DataFrame(schema=schema_of("text"))
    table, bad = read_reference(against)
    if bad:
        raise DataError(
            f"{SourceSpec.of(against, 'against').path}: {len(bad)} records of the reference cannot "
            f"be read, the first for {bad[0]['reason']}; run `siftune curate ingest` on it and "
            "name its rows.parquet"
        )
    return table


def read_reference(against: SourceOption) -> tuple[pl.DataFrame, list[Row]]:
    """The rows of a path, or of ``{path, format, map}``, and the quarantine lines of the others.

    Raises:
        UsageError: an unknown format.
        DataError: it cannot be read; the text says what to write for ``against``.
    """
    given = SourceSpec.of(against, "against")
    with _named(given):
        return read_rows(given.path, format=given.format, mapping=given.map)


def reference_schema(against: SourceOption) -> Mapping[str, pl.DataType]:
    """The columns that the rows of a reference will have, by its first records.

    Raises:
        UsageError: an unknown format.
        DataError: it cannot be read; the text says what to write for ``against``.
    """
    given = SourceSpec.of(against, "against")
    with _named(given):
        return plan([given.path], given.format, given.map).schema


@contextmanager
def _named(given: SourceSpec) -> Iterator[None]:
    """Errors about formats say what to write for ``against``."""
    try:
        with in_recipe():
            yield
    except DataError as error:
        if "`format" not in str(error) and "`map" not in str(error):
            raise
        keys = f"against: {{path: {given.path}, format: NAME, map: {{KEY: NAME}}}}"
        raise DataError(f"{error}; these are keys of `{keys}`") from None


def check_against(against: SourceOption | None) -> None:
    """Check the option before anything is read.

    Raises:
        UsageError: it is neither a path nor ``{path, format, map}``.
    """
    if against is not None:
        SourceSpec.of(against, "against")
