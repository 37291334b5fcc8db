"""Keep the best rows by a score that are not too similar to a better kept row (DEITA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.ranges import ColumnExpression
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.rows.decisions import decide_some, tie_order
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.vectors.similarity_filter import FilterResult, filter_similar
from siftune.curate.vectors.unit_vectors import vector_column, vectors_of

__all__ = ["DeitaFilter"]


@dataclass(frozen=True, kw_only=True)
class DeitaFilter(Budget):
    """Score first, diversity-aware: Liu et al., DEITA, arXiv:2312.15685.

    Rows are taken from the best score down; a row is kept if its cosine to every row kept so far is
    at most ``max_similarity``, until the budget is spent. Rows are compared with kept rows only,
    one at a time, as in the paper and in its code at batch size 1 (larger batches there also drop
    rows that only a dropped row resembles). A row without a vector or a score is ``not_scored``.

    Detail: of a row ``too_similar`` its ``survivor`` and the ``similarity``; the ``rank`` and
    ``value`` of every row.

    Not for covering all of a set: what has a low score is left out, however rare it is.

    Options:
        by: Column with the score of each row, or an expression of columns; a larger one is better.
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        max_similarity: Largest cosine similarity between two kept rows, from -1 to 1.
    """

    by: ColumnExpression
    embedding: str = "embedding"
    max_similarity: float = 0.9

    renamed: ClassVar = (("rank_by", "by"),)

    @property
    def needs(self) -> tuple[str, ...]:
        """The embeddings, the score, and the column that counts."""
        return (base_column(self.embedding), *needs_of(self.by), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The embeddings, and the columns that rank and count."""
        return ((self.embedding, vector_column), *reads_of(self.by), *super().reads)

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on the rows from best to worst."""
        found = scores(table, self.by)
        scored = np.array(found.is_not_null(), dtype=bool)
        vectors = vectors_of(table, self.embedding, self.known(table) & scored)
        order = tie_order(table.select("id", "digest")[vectors.rows], found.gather(vectors.rows))
        rows = vectors.rows[order]
        costs = self.costs(table)[rows]
        filtered = filter_similar(
            vectors.units[order], self.max_similarity, costs, self.cost_limit(table.height)
        )
        return self._decisions(table["id"], found, rows, filtered)

    def _decisions(
        self, ids: pl.Series, scored: pl.Series, rows: np.ndarray, found: FilterResult
    ) -> pl.DataFrame:
        reasons = np.full(len(rows), "over_budget", dtype=object)
        reasons[found.survivor >= 0] = "too_similar"
        reasons[found.kept] = "selected"
        survivors = rows[np.maximum(found.survivor, 0)] if len(rows) else rows
        frame = pl.DataFrame(
            {
                "row": rows,
                "reason": pl.Series(reasons.tolist(), dtype=pl.String),
                "rank": np.arange(1, len(rows) + 1),
                "value": scored.gather(rows),
                "survivor": ids.gather(survivors),
                "similarity": found.similarity,
            }
        )
        similar = pl.col("reason") == "too_similar"
        particulars = pl.struct("rank", "similarity", "survivor", "value").struct.json_encode()
        place = pl.struct("rank", "value").struct.json_encode()
        decided = frame.select(
            "row",
            "reason",
            keep=pl.col("reason") == "selected",
            detail=pl.when(similar).then(particulars).otherwise(place),
        )
        return decide_some(len(ids), decided)
