"""Embedding columns as matrices of unit vectors on a grid, so that their products are exact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.native.gemm import products
from siftune.curate.rows.columns import base_column, values
from siftune.curate.rows.decisions import tie_order

__all__ = [
    "GRID",
    "Vectors",
    "exact_products",
    "on_grid",
    "slack",
    "slices",
    "vector_column",
    "vectors_of",
]

GRID: Final = 2.0**-24
"""Entries of a unit vector are multiples of this.

Each is exact in float32, and the products of two vectors, sums of multiples of 2**-48 that are at
most 1, are exact in float64, in any order of summation, blocks, threads or device. So "which of two
rows is nearer" has one answer, and equal vectors are at distance 0. Rounding changes an entry by
at most 3e-8, as float32 does.
"""

_BLOCK = 4096
_IN_CACHE = 128
_SHOWN = 60  # characters of a value that an error quotes


@dataclass(frozen=True)
class Vectors:
    """The rows that have a vector: ``units`` (m, d) float32, and ``rows`` (m,), their numbers.

    They are in tie order (digest, then id), so that the smaller index wins a tie, whatever the
    order of the table.
    """

    units: np.ndarray
    rows: np.ndarray


def vectors_of(table: pl.DataFrame, by: str, among: np.ndarray | None = None) -> Vectors:
    """Unit vectors of column ``by``; rows with null, a NaN, an infinity or only zeros have none.

    ``among`` is a mask of the rows to use.

    Raises:
        UsageError: the column has no vectors.
        DataError: the vectors differ in length.
    """
    column = vector_column(table, by)
    order = tie_order(table)
    present = np.array(column.is_not_null(), dtype=bool)
    order = order[(present if among is None else present & among)[order]]
    units = np.empty((len(order), _width(column, by)), dtype=np.float32)
    usable = np.ones(len(units), dtype=bool)
    for part in slices(len(units)):
        units[part], usable[part] = on_grid(_matrix(column.gather(order[part])))
    if usable.all():
        return Vectors(units, order)
    return Vectors(np.ascontiguousarray(units[usable]), order[usable])


def vector_column(table: pl.DataFrame, by: str) -> pl.Series:
    """The column of vectors that ``by`` names; a field of ``extra`` is read as JSON.

    Raises:
        UsageError: the column has no vectors.
    """
    column = values(table, by)
    if base_column(by) == "extra" and by != "extra":
        column = _parsed(column, by)
    if not isinstance(column.dtype, pl.List | pl.Array) or not _inner(column.dtype).is_numeric():
        raise UsageError(f"{by!r}: expected a vector a row (an embedding), found {column.dtype}")
    return column


def _parsed(column: pl.Series, by: str) -> pl.Series:
    odd = column.filter(~column.str.starts_with("["))  # a number alone would be read as a list
    with suppress(pl.exceptions.PolarsError):
        if not odd.drop_nulls().len():
            return column.str.json_decode(pl.List(pl.Float32))
    shown = [*odd.drop_nulls(), *column.drop_nulls()][0][:_SHOWN]
    raise UsageError(f"{by!r}: expected a list of numbers a row (an embedding), found {shown}")


def slices(height: int, size: int = _BLOCK) -> Iterator[slice]:
    """Consecutive slices of ``size`` that cover ``height`` rows."""
    for start in range(0, height, size):
        yield slice(start, min(start + size, height))


def exact_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """All products (n, m) of two sets of unit vectors on the grid, exact, in float64."""
    return products(left.astype(np.float64, copy=False), right.astype(np.float64, copy=False))


def slack(dimensions: int) -> float:
    """Largest error of ``1 - x·y`` in float32 as half the squared distance of two unit vectors.

    Rounding of a sum of d products, in any order, is below d · 2**-24 for unit vectors; the length
    of vectors on the grid, not quite 1, adds less than 2 √d · 2**-24.
    """
    return (dimensions + 2 * math.sqrt(dimensions) + 4) * GRID


def _inner(dtype: pl.List | pl.Array) -> pl.DataType:
    inner = dtype.inner
    return inner if isinstance(inner, pl.DataType) else inner()


def _width(column: pl.Series, by: str) -> int:
    if isinstance(column.dtype, pl.Array):
        return int(column.dtype.shape[0])
    widths = column.drop_nulls().list.len().unique().to_list()
    if len(widths) > 1:
        raise DataError(f"column {by}: expected vectors of one length, found {sorted(widths)}")
    return int(widths[0]) if widths else 0


def _matrix(column: pl.Series) -> np.ndarray:
    """A column of vectors without nulls as (n, d); a null entry is NaN."""
    flat = column.explode(empty_as_null=False).cast(pl.Float32).fill_null(float("nan"))
    return np.array(flat, dtype=np.float32).reshape(len(column), -1)


def on_grid(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of ``block`` scaled to length 1, on the grid, and a mask of those that can be."""
    units, usable = np.empty(block.shape, dtype=np.float32), np.empty(len(block), dtype=bool)
    for part in slices(len(block), _IN_CACHE):
        wide = block[part].astype(np.float64)
        lengths = np.sqrt(np.sum(wide * wide, axis=1))
        usable[part] = some = np.isfinite(lengths) & (lengths > 0)
        wide[~some], lengths[~some] = 0.0, 1.0
        wide /= lengths[:, None] * GRID
        np.rint(wide, out=wide)
        wide *= GRID
        units[part] = wide
    return units, usable
