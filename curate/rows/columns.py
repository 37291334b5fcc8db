"""Naming a column in a recipe: a plain one, a field of ``extra``, or a statistic of a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import polars as pl

from siftune.curate.core.column_names import nearest_columns
from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import contents
from siftune.curate.rows.content import text_of

__all__ = ["Reader", "base_column", "groups", "numbers", "sortable", "values"]

Reader: TypeAlias = Callable[[pl.DataFrame, str], pl.Series]
"""Reads what a name stands for from a table; refuses a column that it cannot use."""

_STATISTICS = ("mean", "min", "max", "sum", "first", "last", "len")


def base_column(name: str) -> str:
    """The table column ``name`` reads: ``extra.topic`` reads ``extra``, ``ifd.mean`` ``ifd``."""
    return name.partition(".")[0]


def values(table: pl.DataFrame, name: str) -> pl.Series:
    """The column that ``name`` stands for.

    ``extra.KEY`` is a field the raw row had (as text), ``COLUMN.STAT`` one of mean, min, max, sum,
    first, last, len of a list column; of a list without values all but ``len`` are null.

    Raises:
        UsageError: no such column or statistic, or a list where one value a row is needed.
    """
    column, _, rest = name.partition(".")
    if column not in table.columns:
        raise UsageError(
            f"no column {column!r} in these rows (asked for {name!r}); "
            f"{nearest_columns(column, table.columns)}"
        )
    if column == "extra" and rest:
        return (
            table.select(pl.col("extra").str.json_path_match(_path(rest))).to_series().alias(name)
        )
    if not rest:
        return table[column].alias(name)
    if rest not in _STATISTICS or not isinstance(table[column].dtype, pl.List):
        raise UsageError(
            f"{name!r}: expected a list column and one of {', '.join(_STATISTICS)}; "
            f"{column} is {table[column].dtype}"
        )
    listed = getattr(pl.col(column).list, rest)()
    if rest == "sum":  # polars has 0 for the sum of nothing
        known = pl.col(column).list.drop_nulls().list.len() > 0
        listed = pl.when(known).then(listed)
    return table.select(listed).to_series().alias(name)


def numbers(table: pl.DataFrame, name: str) -> pl.Series:
    """The column that ``name`` stands for as numbers; what is not known is null, never NaN.

    True is 1 and false 0. A field of ``extra`` is read as a number; where its text is none, it is
    null.

    Raises:
        UsageError: no such column, or one that does not hold one number a row.
    """
    column = values(table, name)
    if column.dtype == pl.Boolean:
        return column.cast(pl.UInt8)
    if column.dtype.is_float():
        return column.fill_nan(None)
    if column.dtype.is_numeric() or column.dtype == pl.Null:
        return column
    if column.dtype == pl.String and base_column(name) == "extra":
        return _read_numbers(column, name)
    hint = f"; say {name}.mean, {name}.max, ..." if isinstance(column.dtype, pl.List) else ""
    raise UsageError(f"{name!r}: expected one number a row, the column is {column.dtype}{hint}")


def sortable(table: pl.DataFrame, name: str) -> pl.Series:
    """The column that ``name`` stands for, to rank rows by: numbers, texts, times.

    Raises:
        UsageError: no such column, or one that holds lists.
    """
    column = values(table, name)
    if column.dtype.is_nested():
        hint = f"; say {name}.mean, {name}.max, ..." if isinstance(column.dtype, pl.List) else ""
        raise UsageError(
            f"{name!r} holds {_short(column.dtype)}: expected one value a row to rank by{hint}"
        )
    return column


def groups(table: pl.DataFrame, name: str) -> pl.Series:
    """The column that ``name`` stands for, as one text a row: rows of equal text are a group.

    ``prompt`` is the prompt of any kind of row; turns count by their contents, joined by a blank
    line.

    Raises:
        UsageError: no such column, or one that holds neither turns nor one value a row.
    """
    if name == "prompt":
        return text_of(table, "prompt")
    column = values(table, name)
    if column.dtype == TURNS:
        return contents(column).alias(name)
    if column.dtype.is_nested():
        raise UsageError(
            f"{name!r} holds {_short(column.dtype)}: expected one value a row to group by, such "
            "as source, prompt or extra.KEY"
        )
    return column.cast(pl.String)


def _short(dtype: pl.DataType) -> str:
    """A nested type without the fields of its structs."""
    return (
        f"{dtype.base_type()}({dtype.inner.base_type()})"
        if hasattr(dtype, "inner")
        else (str(dtype.base_type()))
    )


def _read_numbers(column: pl.Series, name: str) -> pl.Series:
    truth = pl.Series(["true", "false"])
    text = column.replace_strict(truth, pl.Series(["1", "0"]), default=column)
    found = text.str.strip_chars().cast(pl.Float64, strict=False).fill_nan(None)
    if column.len() > column.null_count() and found.null_count() == found.len():
        raise UsageError(f"{name!r}: expected numbers, found {column.drop_nulls()[0]!r}")
    return found


def _path(key: str) -> str:
    """JSON path of a key of ``extra``; one that is no plain dotted name is quoted whole."""
    plain = key.replace(".", "").replace("_", "").isalnum()
    return f"$.{key}" if plain else "$['{}']".format(key.replace("'", r"\'"))
