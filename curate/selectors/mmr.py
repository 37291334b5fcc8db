"""Maximal marginal relevance: keep rows of high score that are unlike the kept ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import ColumnExpression, Share
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.rows.decisions import decide, tie_order
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.vectors.farthest_points import PickValue, farthest_first
from siftune.curate.vectors.nearest_centers import Device, on_gpu
from siftune.curate.vectors.pick_decisions import decide_picks
from siftune.curate.vectors.unit_vectors import vector_column, vectors_of

__all__ = ["MMR"]


@dataclass(frozen=True, kw_only=True)
class MMR(Budget):
    """Each pick has the largest ``balance · score - (1 - balance) · max cos to the picks before``.

    Carbonell and Goldstein 1998. Scores are scaled to 0..1 by the smallest and largest of the rows
    that can be picked, so that they compare with cosines; the first pick is the best score. The
    picks are those of the step-by-step greedy (`curate.vectors.farthest_points`); no n×n matrix is
    made. A row without a vector or a score is ``not_scored``.

    Detail: the scaled ``score``, the ``order`` of a kept row, the ``nearest`` kept row of another,
    and the ``similarity``: to the picks before it, or to the nearest.

    Not for scores with outliers: they are scaled by the smallest and the largest, so one of them
    decides.

    Options:
        by: Column with the score of each row, or an expression of columns; a larger one is better.
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        balance: Weight λ from 0 to 1 of the score against the distance to rows already kept: 1 is
            the score alone.
        device: Device to compute on: cpu, cuda, or a GPU where that is faster (auto).
    """

    by: ColumnExpression
    embedding: str = "embedding"
    balance: Share = 0.5
    device: Device = "auto"

    renamed: ClassVar = (("rank_by", "by"),)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.balance <= 1:
            raise UsageError(f"mmr: balance must be from 0 to 1; got {self.balance}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The embeddings, the score, and the column that counts."""
        return (base_column(self.embedding), *needs_of(self.by), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The embeddings, and the columns that rank and count."""
        return ((self.embedding, vector_column), *reads_of(self.by), *super().reads)

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Pick rows until the budget is spent."""
        scored = scores(table, self.by)
        finite = np.array(scored.cast(pl.Float64).is_finite().fill_null(False), dtype=bool)
        vectors = vectors_of(table, self.embedding, self.known(table) & finite)
        if not len(vectors.rows):
            return decide([False] * table.height, "not_scored")
        score = _scaled(scored.gather(vectors.rows))
        first = int(tie_order(table.select("id", "digest")[vectors.rows], pl.Series(score))[0])
        costs, limit = self.costs(table)[vectors.rows], self.cost_limit(table.height)
        work = float(vectors.units.size) * (len(costs) if self.tokens is not None else limit)
        value = PickValue(self.balance * score, 1 - self.balance)
        gpu = on_gpu(self.device, work)
        found = farthest_first(vectors.units, first, costs, limit, gpu, value)
        reach = np.zeros(len(score))
        reach[found.picks] = found.reach
        return decide_picks(
            table["id"],
            vectors,
            found.picks,
            found.nearest,
            kept={"score": score, "similarity": 1 - reach},
            dropped={"score": score, "similarity": 1 - found.distance},
            reason="not_picked",
        )


def _scaled(scores: pl.Series) -> np.ndarray:
    values = np.array(scores, dtype=np.float64)
    low, high = values.min(), values.max()
    scaled: np.ndarray = (values - low) / (high - low) if high > low else np.ones(len(values))
    return scaled
