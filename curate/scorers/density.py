"""Density: how close the nearest other rows of the table are by their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.ranges import Count, check_ranges
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.vectors.neighbor_distances import nearest_distances
from siftune.curate.vectors.row_columns import of_rows
from siftune.curate.vectors.unit_vectors import vector_column, vectors_of

__all__ = ["Density"]


@dataclass(frozen=True)
class Density:
    """Distances to the k nearest other rows; a distance is 1 minus the cosine.

    * ``density``: mean cosine to the ``neighbours`` nearest, 1 where all are equal to the row
    * ``density_nearest``: distance to the nearest, 0 where another row has the same vector
    * ``density_farthest``: distance to the k-th nearest: the radius of a nearest-neighbour density
      estimate (Loftsgaarden and Quesenberry 1965), and an outlier score (Ramaswamy et al. 2000)

    A table with fewer other rows takes those that there are. All pairs are compared in exact
    arithmetic, so the order of rows does not matter; another row in the table may change a score.
    A row without a vector, or alone in the table, has null.

    Not for finding wrong rows: rare topics are as far from others as noise is.

    Options:
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        neighbours: Number of nearest rows (k); 10 as in arXiv:2502.17184.
    """

    embedding: str = "embedding"
    neighbours: Count = 10

    whole: ClassVar = True
    content: ClassVar = ("embedding",)
    data: ClassVar = "rows of any kind"
    adds: ClassVar = {
        "density": pl.Float64,
        "density_nearest": pl.Float64,
        "density_farthest": pl.Float64,
    }

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The embeddings, and the digests that order equal rows."""
        return (base_column(self.embedding), "digest")

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The embeddings."""
        return ((self.embedding, vector_column),)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare each row with all others."""
        vectors = vectors_of(table, self.embedding)
        near = nearest_distances(vectors.units, vectors.units, self.neighbours, same=True)
        near[np.isinf(near)] = np.nan
        found = {
            "density": 1 - near.mean(axis=1),
            "density_nearest": near[:, 0],
            "density_farthest": near[:, -1],
        }
        return of_rows(table.height, vectors, found, self.adds)
