"""Novelty: weighted distance of a row's vector to all others, larger in dense regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.core.ranges import Count, NonNegative, check_ranges
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.vectors.neighbor_distances import density_factors, novelties
from siftune.curate.vectors.row_columns import of_rows
from siftune.curate.vectors.unit_vectors import vector_column, vectors_of

__all__ = ["Novelty"]


@dataclass(frozen=True)
class Novelty:
    """The novelty of a sample in NovelSum, arXiv:2502.17184; their mean is the figure of the set.

    ``novelty = Σ_j w_ij σ_j^β d_ij / Σ_j w_ij`` over all other rows j: ``d`` is 1 minus the cosine,
    ``w_ij = 1 / rank^α`` by distance (the nearest has rank 1), and ``σ_j = 1 / (mean distance of j
    to its k nearest different vectors)``, so that a distance counts more in a dense region. The
    defaults are those of the authors' NovelSelect: α 1, β 0.5, k 10.

    Differences from their code: a row is not among its own neighbours (there it is its nearest one,
    with the largest weight), the density is that of the other row, as in the paper (there that of
    the row itself), and distances of the density are 1 minus the cosine (there squared Euclidean
    ones, twice as large for unit vectors). The mean over weights makes rows of tables of different
    sizes comparable, as there.

    Densities are those of the table. Score the pool, not a selection: in a selection its own
    outliers would count as empty regions; `siftune curate measure` takes the pool beside it.
    Equal vectors add 0 to each other. A row without a vector, or alone in the table, has null.

    Not for more than some 100,000 rows, since every pair is compared and each row's distances are
    sorted; nor for quality: odd rows are the most novel.

    Options:
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        neighbours: Number of nearest different vectors that the density is taken from (k).
        density_power: Exponent of the density (β); 0 leaves it out.
        distance_power: Exponent of the rank by distance (α); 0 weighs all rows alike.
    """

    embedding: str = "embedding"
    neighbours: Count = 10
    density_power: NonNegative = 0.5
    distance_power: NonNegative = 1.0

    whole: ClassVar = True
    content: ClassVar = ("embedding",)
    data: ClassVar = "rows of any kind"
    adds: ClassVar = {"novelty": pl.Float64}

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
        if len(vectors.rows) < 2:
            return pl.DataFrame({"novelty": [None] * table.height}, schema=self.adds)
        factors = density_factors(
            vectors.units, vectors.units, self.neighbours, self.density_power, same=True
        )
        found = {"novelty": novelties(vectors.units, factors, self.distance_power)}
        return of_rows(table.height, vectors, found, self.adds)
