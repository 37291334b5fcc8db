"""K-center: keep rows far apart, so that every dropped row is near a kept one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import ColumnExpression, Seed
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.rows.decisions import decide, draws, tie_order
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.vectors.farthest_points import farthest_first
from siftune.curate.vectors.nearest_centers import Device, on_gpu
from siftune.curate.vectors.pick_decisions import decide_picks
from siftune.curate.vectors.unit_vectors import (
    Vectors,
    exact_products,
    on_grid,
    slack,
    vector_column,
    vectors_of,
)

__all__ = ["KCenter"]


@dataclass(frozen=True)
class KCenter(Budget):
    """Greedy k-center on embeddings: each pick is the row farthest from all picks before it.

    Gonzalez 1985, at most twice the best radius; as a core-set for instruction tuning in Chen et
    al., arXiv:2305.09246. Distance is one minus the cosine. The picks are those of the step-by-step
    greedy in exact arithmetic, on any device (`curate.vectors.farthest_points`); no n×n matrix is
    made. A row without a vector, or of unknown length where tokens are counted, is ``not_scored``.

    Rows that are not picked are ``covered``, or ``over_budget`` where it is too small for one row.
    Detail: a kept row's ``order`` and ``distance`` to the picks before it, a dropped row's
    ``nearest`` kept row and the ``distance`` to it.

    Not for quality, nor noisy sets: the farthest rows are the odd ones; raters like fewer of them
    than of rows drawn at random.

    Options:
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        start: First row that is picked: the one nearest to the mean (center), the best by
            ``by`` (best), or a random one.
        by: Column with the score for ``start: best``, or an expression of columns; a larger one is
            better.
        seed: Seed of the first row of ``start: random``.
        device: Device to compute on: cpu, cuda, or a GPU where that is faster (auto).
    """

    embedding: str = "embedding"
    start: Literal["center", "best", "random"] = "center"
    by: ColumnExpression | None = None
    seed: Seed = 0
    device: Device = "auto"

    renamed: ClassVar = (("rank_by", "by"),)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.start == "best") != (self.by is not None):
            raise UsageError(
                "k_center: start: best and by, the score of the first row, go together; set both "
                "or neither (the column of vectors is embedding)"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """The embeddings, and the columns that rank and count."""
        return (base_column(self.embedding), *needs_of(self.by), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The embeddings, and the columns that rank and count."""
        return ((self.embedding, vector_column), *reads_of(self.by), *super().reads)

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Pick rows until the budget is spent."""
        vectors = vectors_of(table, self.embedding, self.known(table))
        if not len(vectors.rows):
            return decide([False] * table.height, "not_scored")
        limit, costs = self.cost_limit(table.height), self.costs(table)[vectors.rows]
        work = float(vectors.units.size) * (len(costs) if self.tokens is not None else limit)
        gpu = on_gpu(self.device, work)
        first = self._first(table, vectors)
        found = farthest_first(vectors.units, first, costs, limit, gpu)
        reach = np.zeros(len(vectors.rows))
        reach[found.picks] = found.reach
        return decide_picks(
            table["id"],
            vectors,
            found.picks,
            found.nearest,
            kept={"distance": reach},
            dropped={"distance": found.distance},
        )

    def _first(self, table: pl.DataFrame, vectors: Vectors) -> int:
        if self.start == "center":
            return _central(vectors.units)
        rows = table.select("id", "digest")[vectors.rows]
        if self.by is None:
            return int(tie_order(rows, draws(rows, self.seed))[0])
        return int(tie_order(rows, scores(table, self.by).gather(vectors.rows))[0])


def _central(units: np.ndarray) -> int:
    """Index of the vector nearest to the mean; entries on the grid add up without rounding."""
    mean = units.sum(axis=0, dtype=np.float64)[None]
    direction, usable = on_grid(mean)
    if not usable[0]:
        return 0
    products = units @ direction[0]
    near = np.flatnonzero(products >= products.max() - np.float32(2 * slack(units.shape[1])))
    return int(near[np.argmax(exact_products(units[near], direction))])
