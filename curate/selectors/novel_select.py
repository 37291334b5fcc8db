"""NovelSelect: each pick has the largest novelty against the rows picked before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.core.ranges import ColumnExpression, Count, NonNegative, Seed, check_ranges
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.rows.decisions import decide, draws, tie_order
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.vectors.neighbor_distances import density_factors
from siftune.curate.vectors.pick_decisions import decide_picks
from siftune.curate.vectors.unit_vectors import vector_column, vectors_of

__all__ = ["NovelSelect"]


@dataclass(frozen=True)
class NovelSelect(Budget):
    """Greedy selection by NovelSum, Yang et al., arXiv:2502.17184.

    From a random first row on, the row with the largest ``Σ_j w_ij σ_j^β d_ij`` over the picks j:
    ``d`` is 1 minus the cosine, ``w_ij = 1 / rank^α`` of the pick by its distance from i, and
    ``σ_j`` the density around j: 1 / the mean distance to its k nearest different rows of the
    table. So a row is taken that is far from its nearest picks; picks in dense regions push less
    far away. With ``by`` the sum is multiplied by a score, as the authors propose. Their code adds
    the row's own density to that of the pick, and ranks by the product; here is the formula of the
    paper.

    A row without a vector or without a score is ``not_scored``, others are ``not_picked``. Detail:
    a kept row's ``order`` and ``novelty``, a dropped row's ``nearest`` kept row and the
    ``distance`` to it. The steps are rows times half the square of the picks.

    Not for quality, nor noisy sets: the most novel rows are the odd ones, unless ``by`` weighs
    them down.

    Options:
        by: Column with a score, not negative, that novelty is multiplied by, or an expression of
            columns; none takes novelty alone.
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        neighbours: Number of nearest different rows that the density is taken from (k).
        density_power: Exponent of the density (β); 0 leaves it out.
        distance_power: Exponent of the rank by distance (α).
        seed: Seed of the first row.
    """

    by: ColumnExpression | None = None
    embedding: str = "embedding"
    neighbours: Count = 10
    density_power: NonNegative = 0.5
    distance_power: NonNegative = 1.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The embeddings, and the columns that score and count."""
        return (base_column(self.embedding), *needs_of(self.by), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The embeddings, and the columns that score and count."""
        return ((self.embedding, vector_column), *reads_of(self.by), *super().reads)

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Pick rows until the budget is spent."""
        weights, scored = self._weights(table)
        vectors = vectors_of(table, self.embedding, self.known(table) & scored)
        if not len(vectors.rows):
            return decide([False] * table.height, "not_scored")
        units = vectors.units
        factors = density_factors(units, units, self.neighbours, self.density_power, same=True)
        rows = table.select("id", "digest")[vectors.rows]
        greedy = _Greedy(units, factors, weights[vectors.rows], self.distance_power)
        first = int(tie_order(rows, draws(rows, self.seed))[0])
        costs, left = self.costs(table)[vectors.rows], self.cost_limit(table.height)
        best, novelty = first, 0.0
        while len(greedy.picks) < len(units) and costs[best] <= left:
            left -= costs[best]
            greedy.pick(best, novelty)
            best = int(greedy.value.argmax())
            novelty = float(greedy.value[best])
        value = np.zeros(len(units))
        value[greedy.picks] = greedy.novelty
        return decide_picks(
            table["id"],
            vectors,
            np.array(greedy.picks, dtype=np.int64),
            greedy.nearest,
            kept={"novelty": value},
            dropped={"distance": greedy.gaps[0] if greedy.gaps else value},
            reason="not_picked",
        )

    def _weights(self, table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Score of each row, and which rows have one."""
        if self.by is None:
            return np.ones(table.height), np.ones(table.height, dtype=bool)
        found = scores(table, self.by).cast(pl.Float64).fill_nan(None)
        if (found < 0).any():
            raise DataError(f"column {self.by}: novel_select takes scores that are not negative")
        return found.fill_null(0).to_numpy(), np.array(found.is_not_null(), dtype=bool)


class _Greedy:
    """Distances of all rows to the picks, sorted for each row, and the novelty of the rows."""

    def __init__(
        self, units: np.ndarray, factors: np.ndarray, weights: np.ndarray, power: float
    ) -> None:
        self.picks: list[int] = []
        self.novelty: list[float] = []
        self.nearest = np.zeros(len(units), dtype=np.int64)
        self.gaps: list[np.ndarray] = []  # the nearest pick of each row first
        self._factors, self._weights, self._power = factors, weights, power
        self._of: list[np.ndarray] = []  # the factors of these picks
        self._wide = units.astype(np.float64)
        self._halves = np.sum(self._wide**2, axis=1) / 2
        self._open = np.ones(len(units), dtype=bool)

    @property
    def value(self) -> np.ndarray:
        """Weighted novelty of the rows; of picks minus infinity."""
        return self._value

    def pick(self, row: int, novelty: float) -> None:
        """Add a pick: insert its distances where they belong, and sum anew."""
        gap = self._halves + self._halves[row] - self._wide @ self._wide[row]  # exact
        factor = np.full(len(gap), self._factors[row])
        if self.gaps:
            self.nearest[gap < self.gaps[0]] = len(self.picks)
        self.picks.append(row)
        self.novelty.append(novelty)
        self._open[row] = False
        total = np.zeros(len(gap))
        for at in range(len(self.gaps)):
            nearer = gap < self.gaps[at]
            near, far = np.where(nearer, (gap, self.gaps[at]), (self.gaps[at], gap))
            own, factor = np.where(nearer, (factor, self._of[at]), (self._of[at], factor))
            self.gaps[at], self._of[at], gap = near, own, far
            total += near * own * (at + 1.0) ** -self._power
        total += gap * factor * float(len(self.picks)) ** -self._power
        self.gaps.append(gap)
        self._of.append(factor)
        self._value = np.where(self._open, total * self._weights, -np.inf)
