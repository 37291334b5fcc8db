"""Reference rows: rows of another source that the rows of a table are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import orjson
import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import schema_of
from siftune.curate.core.types import Row
from siftune.curate.files.source_spec import SourceOption, SourceSpec, in_recipe, reference_name
from siftune.curate.io.ingest import read_rows
from siftune.curate.io.sources import plan

__all__ = [
    "check_against",
    "naming_reference",
    "read_reference",
    "reference_rows",
    "reference_schema",
]


def reference_rows(against: SourceOption | None) -> pl.DataFrame:
    """The rows of a reference; an empty table without one.

    Raises:
        DataError: the reference or some of its records cannot be read.
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
        DataError: it cannot be read; the message gives the syntax of ``against``.
    """
    given = SourceSpec.of(against, "against")
    with _format_advice(given):
        return read_rows(given.path, format=given.format, mapping=given.map)


def reference_schema(against: SourceOption) -> Mapping[str, pl.DataType]:
    """The columns of the rows of a reference, by its first records.

    Raises:
        UsageError: an unknown format.
        DataError: it cannot be read; the message gives the syntax of ``against``.
    """
    given = SourceSpec.of(against, "against")
    with _format_advice(given):
        return plan([given.path], given.format, given.map).schema


@contextmanager
def _format_advice(given: SourceSpec) -> Iterator[None]:
    """Add the syntax of ``against`` to errors about formats."""
    try:
        with in_recipe():
            yield
    except DataError as error:
        if "`format" not in str(error) and "`map" not in str(error):
            raise
        keys = f"against: {{path: {given.path}, format: NAME, map: {{KEY: NAME}}}}"
        raise DataError(f"{error}; these are keys of `{keys}`") from None


def check_against(against: SourceOption | None) -> None:
    """Check the option before the reference is read.

    Raises:
        UsageError: ``against`` is neither a path nor ``{path, format, map}``.
    """
    if against is not None:
        SourceSpec.of(against, "against")


def naming_reference(
    decisions: pl.DataFrame,
    against: SourceOption | None,
    index: str | None = None,
    of_index: Sequence[int] | np.ndarray = (),
) -> pl.DataFrame:
    """The decisions, with the path of the reference where a reference row is the survivor.

    Its id alone may be that of a row of the table, too. Survivors of the rows numbered ``of_index``
    are rows of ``index``, others of ``against``.

    >>> given = {"reason": ["exact_duplicate_of_reference"], "detail": ['{"survivor":"a:1"}']}
    >>> naming_reference(pl.DataFrame(given), "old/a.jsonl")["detail"][0]
    '{"reference":"old/a.jsonl","survivor":"a:1"}'
    """
    if against is None and index is None:
        return decisions
    path = None if against is None else SourceSpec.of(against, "against").path
    path = reference_name(path) or path
    starts = [f'{{"reference":{orjson.dumps(one).decode()},' for one in (path, index)]
    start = pl.Series("start", [starts[0]]).new_from_index(0, decisions.height)
    start = start.scatter(of_index, starts[1]) if len(of_index) else start
    named = pl.concat_str(start, pl.col("detail").str.strip_prefix("{"))
    of_reference = pl.col("reason").str.ends_with("_of_reference")
    return decisions.with_columns(detail=pl.when(of_reference).then(named).otherwise("detail"))
