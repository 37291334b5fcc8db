"""Keep the same number of rows of each cluster of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import ColumnExpression, Count, Natural, Seed
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.rows.decisions import decide, decide_some, details, draws, tie_order
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.vectors.kmeans import cluster_rows
from siftune.curate.vectors.nearest_centers import Device
from siftune.curate.vectors.unit_vectors import vector_column, vectors_of

__all__ = ["ClusterBalanced"]


@dataclass(frozen=True)
class ClusterBalanced(Budget):
    """Spherical k-means clusters; rows are taken from all clusters in turn.

    Each round takes one row from every cluster that has any left: the one of the best score ``by``,
    or one drawn by ``seed``; the last round takes the best rows over all clusters. So small
    clusters are kept whole before large ones get more, as in CaR, arXiv:2402.18191, which also
    gives the default number of clusters. A row without a vector or a score is ``not_scored``.

    Detail: the ``cluster``, its ``size``, and the row's ``rank`` in it.

    Not for sets with many odd rows: small clusters of noise are kept whole.

    Options:
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        clusters: Number of clusters; none takes the square root of half the number of rows.
        by: Column with a score whose best rows are kept of each cluster, or an expression of
            columns; none keeps a random sample.
        iterations: Largest number of k-means iterations.
        seed: Seed of the first cluster centres and of the sample.
        device: Device to compute on: cpu, cuda, or a GPU where that is faster (auto).
    """

    embedding: str = "embedding"
    clusters: Count | None = None
    by: ColumnExpression | None = None
    iterations: Natural = 25
    seed: Seed = 0
    device: Device = "auto"

    renamed: ClassVar = (("rank_by", "by"),)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 0 or (self.clusters is not None and self.clusters < 1):
            raise UsageError("cluster_balanced: clusters must be at least 1, iterations 0")

    @property
    def needs(self) -> tuple[str, ...]:
        """The embeddings, and the columns that rank and count."""
        return (base_column(self.embedding), *needs_of(self.by), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The embeddings, and the columns that rank and count."""
        return ((self.embedding, vector_column), *reads_of(self.by), *super().reads)

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Cluster the rows, then take one row of each cluster a round until the budget is spent."""
        found = draws(table, self.seed) if self.by is None else scores(table, self.by)
        scored = np.array(found.is_not_null(), dtype=bool)
        vectors = vectors_of(table, self.embedding, self.known(table) & scored)
        if not len(vectors.rows):
            return decide([False] * table.height, "not_scored")
        rows = table.select("id", "digest")[vectors.rows]
        best = tie_order(rows, found.gather(vectors.rows), descending=self.by is not None)
        cluster, _ = cluster_rows(
            rows, vectors.units, self.clusters, self.iterations, self.seed, self.device
        )
        rank, size = _ranks(cluster, best)
        place = np.empty(len(best), dtype=np.int64)
        place[best] = np.arange(len(best))
        turns = vectors.rows[np.lexsort((place, rank))]
        keep = np.isin(vectors.rows, self.take(table, turns))
        particulars = pl.DataFrame({"cluster": cluster, "rank": rank + 1, "size": size})
        decided = pl.DataFrame(
            {"row": vectors.rows, "keep": keep, "detail": details(particulars)}
        ).with_columns(
            reason=pl.when("keep").then(pl.lit("selected")).otherwise(pl.lit("over_quota"))
        )
        return decide_some(table.height, decided)


def _ranks(cluster: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank of each row in its cluster (from 0, in the order ``best``), and the cluster's size."""
    frame = pl.DataFrame({"at": best, "cluster": cluster[best]}).with_columns(
        rank=pl.int_range(pl.len()).over("cluster"), size=pl.len().over("cluster")
    )
    back = frame.sort("at")
    return back["rank"].to_numpy(), back["size"].to_numpy()
