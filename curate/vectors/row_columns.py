"""Columns of a table from values of the rows that have a vector: the others are null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from siftune.curate.vectors.unit_vectors import Vectors

__all__ = ["of_rows"]


def of_rows(
    height: int, vectors: Vectors, found: Mapping[str, Any], adds: Mapping[str, Any]
) -> pl.DataFrame:
    """The columns ``adds`` of a table of ``height`` rows; ``found`` has a value a vector each."""
    values = pl.DataFrame({"row": vectors.rows, **found}, nan_to_null=True)
    every = pl.DataFrame({"row": pl.int_range(height, dtype=pl.Int64, eager=True)})
    joined = every.join(values, on="row", how="left", maintain_order="left")
    return joined.select(*adds).cast(pl.Schema(adds))
