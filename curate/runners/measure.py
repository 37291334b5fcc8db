"""Figures of sets of rows: their vectors are read, or made where the rows have none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse
from siftune.curate.vectors.set_figures import SetFigures, set_figures
from siftune.curate.vectors.unit_vectors import Vectors, vectors_of

__all__ = ["figures_of_tables", "measure", "vector_table"]


def measure(
    rows: str, pool: str | None = None, embedding: str = "embedding", model: str | None = None
) -> SetFigures:
    """Figures of the rows of a source, and how they cover those of a pool.

    Raises:
        UsageError: a source has no vectors and cannot be embedded.
        DataError: one cannot be read, or the vectors of the two differ in length.
    """
    tables = [vector_table(one, embedding, model) for one in (rows, pool) if one is not None]
    return figures_of_tables(tables[0], tables[1] if pool is not None else None, embedding)


def figures_of_tables(table: pl.DataFrame, pool: pl.DataFrame | None, embedding: str) -> SetFigures:
    """Figures of the rows of a table with vectors."""
    own, others = vectors_of(table, embedding), None
    if pool is not None:
        others = vectors_of(pool, embedding).units
        _refuse_other_width(own, others)
    return set_figures(own.units, table.height - len(own.rows), others)


def _refuse_other_width(own: Vectors, pool: np.ndarray) -> None:
    if len(own.units) and len(pool) and own.units.shape[1] != pool.shape[1]:
        raise DataError(
            f"measure: the pool's vectors have {pool.shape[1]} numbers, those of the rows "
            f"{own.units.shape[1]}: score both with the same model"
        )


def vector_table(source: str, embedding: str, model: str | None = None) -> pl.DataFrame:
    """The rows of a source with their vectors.

    Raises:
        UsageError: it has no vectors, and cannot be embedded.
    """
    with TemporaryDirectory() as folder:
        recipe = {"name": "measure", "source": [source], "stages": []}
        kept = _run(recipe, Path(folder) / "read")
        if embedding.partition(".")[0] in kept.columns:
            return kept
        if embedding != "embedding":
            raise UsageError(
                f"{source}: no column {embedding!r}; expected one with a vector a row, or leave "
                "--embedding out to have the rows embedded"
            )
        stage = {"score": "embedding", **({} if model is None else {"model": model})}
        scored = _run({**recipe, "stages": [stage]}, Path(folder) / "embedded")
    if embedding not in scored.columns:
        sides = ", ".join(one for one in scored.columns if one.endswith("embedding"))
        raise UsageError(
            f"{source}: rows of two answers have two embeddings: score them with `siftune curate "
            f"score embedding` and name one of {sides} with --embedding"
        )
    return scored


def _run(recipe: Mapping[str, Any], out: Path) -> pl.DataFrame:
    return pl.read_parquet(run(parse(recipe), out).out / "kept.parquet")
