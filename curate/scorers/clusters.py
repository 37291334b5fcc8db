"""Clusters of embeddings: number and size of each row's k-means cluster, and the distance to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.ranges import Count, Natural, Seed, check_ranges
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.vectors.kmeans import cluster_rows
from siftune.curate.vectors.nearest_centers import Device
from siftune.curate.vectors.row_columns import of_rows
from siftune.curate.vectors.unit_vectors import vector_column, vectors_of

__all__ = ["Clusters"]


@dataclass(frozen=True)
class Clusters:
    """Spherical k-means of all rows of the table; by default √(n/2) clusters, as CaR has them.

    * ``clusters``: the number of the cluster, 0 for the largest
    * ``clusters_size``: how many rows it has
    * ``clusters_distance``: 1 minus the cosine to its centre

    The clusters are those of the selector `cluster_balanced` with the same options
    (arXiv:2402.18191 gives the default number). As ``group_by: clusters`` they give other selectors
    a budget each. Sums and comparisons are exact, so neither the order of rows nor the device
    matters; another row in the table may change all clusters. A row without a vector has null.

    Not for finding a given number of topics: k-means makes as many clusters as it is given.

    Options:
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        clusters: Number of clusters; none takes the square root of half the number of rows.
        iterations: Largest number of k-means iterations.
        seed: Seed of the first cluster centres.
        device: Device to compute on: cpu, cuda, or a GPU where that is faster (auto).
    """

    embedding: str = "embedding"
    clusters: Count | None = None
    iterations: Natural = 25
    seed: Seed = 0
    device: Device = "auto"

    whole: ClassVar = True
    content: ClassVar = ("embedding",)
    data: ClassVar = "rows of any kind"
    adds: ClassVar = {
        "clusters": pl.UInt32,
        "clusters_size": pl.UInt32,
        "clusters_distance": pl.Float64,
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
        """Cluster all rows of the table."""
        vectors = vectors_of(table, self.embedding)
        cluster, centres = cluster_rows(
            table.select("id", "digest")[vectors.rows],
            vectors.units,
            self.clusters,
            self.iterations,
            self.seed,
            self.device,
        )
        cosine = np.einsum("ij,ij->i", vectors.units, centres[cluster], dtype=np.float64)
        sizes = np.bincount(cluster, minlength=len(centres))
        _, first = np.unique(cluster, return_index=True)  # in tie order
        used = cluster[np.sort(first)]
        rank = np.empty(len(centres), dtype=np.int64)
        rank[used[np.argsort(-sizes[used], kind="stable")]] = np.arange(len(used))
        found = {
            "clusters": rank[cluster],
            "clusters_size": sizes[cluster],
            "clusters_distance": 1 - cosine,
        }
        return of_rows(table.height, vectors, found, self.adds)
