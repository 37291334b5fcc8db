"""Numbers that came with rows, by name: of a column, or of the fields that have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from siftune.curate.core.errors import UsageError

__all__ = ["numbers_of", "with_pair_numbers"]


def numbers_of(table: pl.DataFrame, name: str, *, many: bool = False) -> pl.Series:
    """A number of each row of ``table``, or with ``many`` a list of numbers; else null.

    They are those of the column ``name``; where there is none or it is empty, those of the field of
    that name that came with the rows and has no column (``extra``).
    """
    if name in table.columns and table[name].null_count() < table.height:
        found = table[name]
    else:
        found = _from_extra(table, name, many=many)
    shape = pl.List(pl.Float64) if many else pl.Float64()
    try:
        return found.cast(shape, strict=False)
    except pl.exceptions.PolarsError:  # a list where a number is expected, or the other way round
        return pl.Series(name, [None] * table.height, dtype=shape)


def with_pair_numbers(
    table: pl.DataFrame,
    names: Sequence[str],
    given: Mapping[str, str] | None = None,
    source: Path | str = "rows",
) -> pl.DataFrame:
    """``table`` with a column for each of ``names``, which is a number of each pair.

    It is read from the place that ``given`` says, else from its own name (`numbers_of`).

    Raises:
        UsageError: no row has one of them.
    """
    for name in names:
        place = (given or {}).get(name, name)
        values = numbers_of(table, place)
        if values.null_count() == table.height:
            raise UsageError(f"{source}: the loss reads the column {place!r}, and no row has it")
        table = table.with_columns(values.alias(name))
    return table


def _from_extra(table: pl.DataFrame, name: str, *, many: bool) -> pl.Series:
    texts = table["extra"].to_list() if "extra" in table.columns else [None] * table.height
    found = [orjson.loads(text).get(name) if text else None for text in texts]
    read = [_numbers(value) if many else _number(value) for value in found]
    return pl.Series(name, read, dtype=pl.List(pl.Float64) if many else pl.Float64)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _numbers(value: Any) -> list[float | None] | None:
    return [_number(one) for one in value] if isinstance(value, list) else None
