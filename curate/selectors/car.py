"""CaR: the best rows of all by a score, and the best ones of each cluster of embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from siftune.curate.core.ranges import ColumnExpression, Count, Natural, Seed, check_ranges
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.rows.decisions import decide_some, details, tie_order
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.vectors.kmeans import cluster_rows
from siftune.curate.vectors.nearest_centers import Device
from siftune.curate.vectors.unit_vectors import vector_column, vectors_of

__all__ = ["CaR"]


@dataclass(frozen=True, kw_only=True)
class CaR:
    """Cluster and rank, Ge et al., arXiv:2402.18191: n1 rows of all, and n2 of each cluster.

    A row is kept if it is among the ``rows`` best by ``by``, or among the ``per_cluster`` best of
    its cluster; the defaults are the paper's n1 and n2. Clusters are those of the scorer
    `clusters`: √(n/2) of them, on unit vectors. The paper reduces its vectors by PCA to 95 % of
    their variance and scores with a model of its own (IQS); here ``by`` is any score. A row without
    a vector or a score is ``not_scored``.

    Detail: the ``cluster`` and its ``size``, the ``rank`` in it, and the ``place`` among all rows.

    Not for an exact number of rows: the two parts overlap, and clusters may be fewer than asked.

    Options:
        by: Column with the score of each row, or an expression of columns; a larger one is better.
        rows: Number of rows that are kept whatever their cluster.
        per_cluster: Number of rows that are kept of each cluster.
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        clusters: Number of clusters; none takes the square root of half the number of rows.
        iterations: Largest number of k-means iterations.
        seed: Seed of the first cluster centres.
        device: Device to compute on: cpu, cuda, or a GPU where that is faster (auto).
    """

    by: ColumnExpression
    rows: Natural = 1000
    per_cluster: Natural = 1
    embedding: str = "embedding"
    clusters: Count | None = None
    iterations: Natural = 25
    seed: Seed = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The embeddings and the score."""
        return (base_column(self.embedding), *needs_of(self.by))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The embeddings and the score."""
        return ((self.embedding, vector_column), *reads_of(self.by))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Rank all rows, and those of each cluster."""
        found = scores(table, self.by)
        vectors = vectors_of(table, self.embedding, np.array(found.is_not_null(), dtype=bool))
        rows = table.select("id", "digest")[vectors.rows]
        cluster, _ = cluster_rows(
            rows, vectors.units, self.clusters, self.iterations, self.seed, self.device
        )
        best = tie_order(rows, found.gather(vectors.rows))
        place = np.empty(len(best), dtype=np.int64)
        place[best] = np.arange(1, len(best) + 1)
        frame = pl.DataFrame({"cluster": cluster, "place": place}).with_columns(
            rank=pl.col("place").rank("ordinal").over("cluster"), size=pl.len().over("cluster")
        )
        keep = (pl.col("place") <= self.rows) | (pl.col("rank") <= self.per_cluster)
        decided = frame.select(
            row=pl.Series(vectors.rows),
            keep=keep,
            reason=pl.when(keep).then(pl.lit("selected")).otherwise(pl.lit("over_quota")),
            detail=details(frame),
        )
        return decide_some(table.height, decided)
