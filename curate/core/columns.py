"""Naming a column in a recipe: a plain one, a field of ``extra``, or a statistic of a list."""

from __future__ import annotations

import polars as pl

from curate.core.errors import UsageError
from curate.core.registry import closest

__all__ = ["base_column", "values"]

_STATISTICS = ("mean", "min", "max", "sum", "first", "last", "len")


def base_column(name: str) -> str:
    """The table column ``name`` reads: ``extra.topic`` reads ``extra``, ``ifd.mean`` ``ifd``."""
    return name.partition(".")[0]


def values(table: pl.DataFrame, name: str) -> pl.Series:
    """The column that ``name`` stands for.

    ``extra.KEY`` is a field the raw row had (as text), ``COLUMN.STAT`` one of mean, min, max, sum,
    first, last, len of a list column.

    Raises:
        UsageError: no such column or statistic, or a list where one value a row is needed.
    """
    column, _, rest = name.partition(".")
    if column not in table.columns:
        there = tuple(table.columns)
        raise UsageError(
            f"no column {column!r} in these rows (asked for {name!r}); {closest(column, there)}"
        )
    if column == "extra" and rest:
        return (
            table.select(pl.col("extra").str.json_path_match(f"$.{rest}")).to_series().alias(name)
        )
    if not rest:
        return table[column].alias(name)
    if rest not in _STATISTICS or not isinstance(table[column].dtype, pl.List):
        raise UsageError(
            f"{name!r}: expected a list column and one of {', '.join(_STATISTICS)}; "
            f"{column} is {table[column].dtype}"
        )
    listed = getattr(pl.col(column).list, rest)()
    return table.select(listed).to_series().alias(name)
