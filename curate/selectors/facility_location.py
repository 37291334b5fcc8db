"""Facility location: keep rows that are together as similar as possible to all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.ranges import ColumnExpression, Count, Seed
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.rows.decisions import decide, draws
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.vectors.facility_location import (
    FacilityPicks,
    facility_picks,
    facility_picks_exact,
    greedi,
)
from siftune.curate.vectors.nearest_centers import Device, NearestCenters, on_gpu
from siftune.curate.vectors.pick_decisions import decide_picks
from siftune.curate.vectors.unit_vectors import Vectors, slices, vector_column, vectors_of

__all__ = ["FacilityLocation"]

_PAIRS = 2**23


@dataclass(frozen=True)
class FacilityLocation(Budget):
    """Lazy greedy for the largest ``Σ_i max_{j kept} w_j · max(0, cos(i, j))``.

    The picks of Superfiltering.D, arXiv:2402.00530, and of submodlib and apricot; at least 1 - 1/e
    of the best. Every pair of rows counts, but no more than n · ``neighbours`` of them (or 8
    million, if that is more) are in memory at a time: those that can still change a pick
    (`curate.vectors.facility_location`).
    A row without a vector, or without a score to weigh it, is ``not_scored``.

    Similarities are float32: a device or BLAS that rounds otherwise may pick another one of two
    rows whose gains are equal to seven digits. Among more than 8,192 rows the first picks, until
    that few pairs matter, are those for 8,192 evenly sampled rows. ``exact`` gives the same picks
    everywhere, and takes longer.

    Detail: a kept row's ``order`` and ``gain``, a dropped row's ``nearest`` kept row and the
    ``similarity`` to it.

    Not for rare rows: it keeps what resembles many others.

    Options:
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        by: Column with a score, not negative, that weighs how well a row represents others, or an
            expression of columns; none weighs all alike.
        neighbours: Average number of similar rows stored for each row: more take memory and save
            time.
        exact: Compute in exact arithmetic, over all rows from the first pick on.
        partitions: Number of random parts that are solved one by one, then their winners (GreeDi,
            arXiv:1411.0541); 1 solves all at once.
        seed: Seed of the random parts.
        device: Device to compute on: cpu, cuda, or a GPU where that is faster (auto).
    """

    embedding: str = "embedding"
    by: ColumnExpression | None = None
    neighbours: Count = 64
    exact: bool = False
    partitions: Count = 1
    seed: Seed = 0
    device: Device = "auto"

    renamed: ClassVar = (("rank_by", "by"),)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbours < 1 or self.partitions < 1:
            raise UsageError("facility_location: neighbours and partitions must be at least 1")

    @property
    def needs(self) -> tuple[str, ...]:
        """The embeddings, and the columns that weigh and count."""
        return (base_column(self.embedding), *needs_of(self.by), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The embeddings, and the columns that rank and count."""
        return ((self.embedding, vector_column), *reads_of(self.by), *super().reads)

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Pick rows until the budget is spent."""
        weights, weighed = self._weights(table)
        vectors = vectors_of(table, self.embedding, self.known(table) & weighed)
        if not len(vectors.rows):
            return decide([False] * table.height, "not_scored")
        found = self._locate(table, vectors, weights[vectors.rows])
        gains = np.zeros(len(vectors.rows))
        gains[found.picks] = found.gains
        nearest, gap = _nearest_pick(vectors.units, found.picks)
        return decide_picks(
            table["id"],
            vectors,
            found.picks,
            nearest,
            kept={"gain": gains},
            dropped={"similarity": 1 - gap},
        )

    def _locate(self, table: pl.DataFrame, vectors: Vectors, weights: np.ndarray) -> FacilityPicks:
        costs, limit = self.costs(table)[vectors.rows], self.cost_limit(table.height)
        if self.partitions == 1:
            return self._greedy(vectors.units, weights, costs, limit)
        drawn = draws(table.select("id", "digest")[vectors.rows], self.seed).to_numpy()
        parts = np.floor(drawn * self.partitions).astype(np.int64)
        return greedi(vectors.units, weights, costs, limit, parts=parts, greedy=self._greedy)

    def _greedy(
        self, units: np.ndarray, weights: np.ndarray, costs: np.ndarray, limit: float
    ) -> FacilityPicks:
        if self.exact:
            return facility_picks_exact(units, weights, costs, limit)
        pairs = max(_PAIRS, len(units) * self.neighbours)
        gpu = on_gpu(self.device, float(units.size) * len(units))
        return facility_picks(units, weights, costs, limit, pairs=pairs, gpu=gpu)

    def _weights(self, table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Weight of each row, the largest 1; and which rows have one."""
        if self.by is None:
            return np.ones(table.height), np.ones(table.height, dtype=bool)
        weights = scores(table, self.by).cast(pl.Float64)
        if (weights < 0).any():
            raise DataError(
                f"column {self.by}: a weight must not be negative; "
                "facility_location takes it as a share of the largest"
            )
        largest = float(np.nanmax([0.0, *weights.drop_nulls().to_list()])) or 1.0
        return (
            weights.fill_null(0).to_numpy() / largest,
            np.array(weights.is_not_null(), dtype=bool),
        )


def _nearest_pick(units: np.ndarray, picks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each vector the index of the nearest pick, and half the squared distance to it."""
    if not len(picks):
        return np.full(len(units), -1), np.full(len(units), np.inf)
    nearest = NearestCenters(units)
    for part in slices(len(picks), 1024):
        nearest.add(units[picks[part]])
    return nearest.resolve(units[picks])
