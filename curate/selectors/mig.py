"""MIG: rows whose tags add most information to a graph of tags, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.core.ranges import ColumnExpression, PositiveShare, Share, check_ranges
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader, base_column, tag_lists
from siftune.curate.rows.decisions import decide_some, details, tie_order
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.vectors.cosine_neighbors import pairs_above, products
from siftune.curate.vectors.embed import Embedder
from siftune.curate.vectors.unit_vectors import on_grid

__all__ = ["MIG"]

_SMALLEST = 1e-6  # added to the information of a tag, so that the first gain is finite


@dataclass(frozen=True)
class MIG(Budget):
    """Greedy maximum of the information of a tag graph; Chen et al., arXiv:2504.13835.

    Tags are nodes; two are linked with the cosine of their embeddings as weight, if it is at least
    ``similarity``. A row gives its score to each of its tags, and P, the matrix of weights (1 on
    the diagonal) divided by the sums of its columns, spreads it to linked ones: v = score · tags ·
    P. The information of a set is ``Σ φ(x)`` over tags, ``x`` the sum of its rows' v and ``φ(x) =
    (x + 1e-6)^0.8``. The next row has the largest gain ``v · φ'(x)``, as in the authors' code,
    which gives the defaults here. There a score is DEITA's complexity times quality, summed over
    turns.

    A row without a list of tags or without a score is ``not_scored``, one whose list is empty
    ``no_tags``; others are ``over_budget``. Detail of a kept row: its ``order`` and ``gain``.

    Not for scores below 0, nor for tags that a small judge made up row by row: those that nobody
    else has add most.

    Options:
        by: Column with the score of each row, not negative, or an expression of columns; none
            takes 1 for all.
        tags: Column with a list of tags for each row, such as the scorer `tags` adds.
        similarity: Least cosine of two linked tags; 1 links none, and needs no model.
        exponent: Exponent of φ: 1 adds scores up, smaller ones prefer tags that have little.
        model: Embedding model of the tags, as a folder, a name of `siftune models list`, or a name
            on the hub; none takes all-MiniLM-L6-v2.
    """

    by: ColumnExpression | None = None
    tags: str = "tags"
    similarity: Share = 0.9
    exponent: PositiveShare = 0.8
    model: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The tags, and the columns that score and count."""
        return (base_column(self.tags), *needs_of(self.by), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The tags, and the columns that score and count."""
        return ((self.tags, tag_lists), *reads_of(self.by), *super().reads)

    def describe(self) -> dict[str, Any]:
        """The embedding model by its content, if tags are embedded."""
        return {} if self.similarity == 1 else self._embedder.describe()

    @property
    def _embedder(self) -> Embedder:
        return Embedder(self.model, dtype="fp32")

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Take the row with the largest gain until the budget is spent."""
        tags = tag_lists(table, self.tags).list.unique().list.drop_nulls()
        weights, scored = self._weights(table)
        listed = tags.is_not_null().to_numpy()
        known = listed & scored & self.known(table)
        empty = tags.list.len().fill_null(0).to_numpy() == 0
        rows = tie_order(table)
        rows = rows[(known & ~empty)[rows]]
        vectors = self._vectors(tags.gather(rows), weights[rows])
        limit = self.cost_limit(table.height)
        picks, gains = self._picks(vectors, self.costs(table)[rows], limit)
        order = np.zeros(table.height, dtype=np.int64)
        order[rows[picks]] = np.arange(1, len(picks) + 1)
        gain = np.zeros(table.height)
        gain[rows[picks]] = gains
        kept = order > 0
        reason = np.where(kept, "selected", np.where(empty, "no_tags", "over_budget"))
        detail = details(pl.DataFrame({"order": order, "gain": gain}))
        decided = pl.DataFrame(
            {"row": np.arange(table.height), "keep": kept, "reason": reason, "detail": detail}
        ).with_columns(pl.when("keep").then("detail").alias("detail"))
        return decide_some(table.height, decided.filter(pl.Series(known)))

    def _weights(self, table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Score of each row, and which rows have one."""
        if self.by is None:
            return np.ones(table.height), np.ones(table.height, dtype=bool)
        found = scores(table, self.by).cast(pl.Float64).fill_nan(None)
        if (found < 0).any():
            raise DataError(f"column {self.by}: mig takes scores that are not negative")
        return found.fill_null(0).to_numpy(), np.array(found.is_not_null(), dtype=bool)

    def _vectors(self, tags: pl.Series, weights: np.ndarray) -> Any:
        """Scores spread over the tags of the graph, (rows, tags), sparse."""
        from scipy.sparse import csr_array, diags_array

        names = tags.explode(empty_as_null=False).unique().sort()
        flat = pl.DataFrame({"row": np.arange(len(tags)), "tag": tags}).explode(
            "tag", empty_as_null=False
        )
        place = flat["tag"].replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64)
        row = flat["row"].to_numpy()
        shape = (len(tags), len(names))
        given = csr_array((weights[row], (row, place.to_numpy())), shape=shape)
        if self.similarity == 1 or not len(names):
            return given
        links = self._links(names.to_list())
        spread = csr_array(given @ (links @ diags_array(1 / links.sum(axis=0))))
        spread.sort_indices()
        return spread

    def _links(self, names: list[str]) -> Any:
        """Symmetric weights of the links of tags, 1 on the diagonal."""
        from scipy.sparse import coo_array, csr_array

        units, usable = on_grid(self._embedder.encode(names).vectors)
        at = np.flatnonzero(usable)
        engine = products("float32", len(at))
        left, right, cosine = pairs_above(units[at], self.similarity, engine)
        every = np.arange(len(names))
        entries = np.concatenate([cosine, cosine, np.ones(len(names))])
        row = np.concatenate([at[left], at[right], every])
        column = np.concatenate([at[right], at[left], every])
        return csr_array(coo_array((entries, (row, column)), shape=(len(names),) * 2))

    def _picks(
        self, vectors: Any, costs: np.ndarray, limit: float
    ) -> tuple[list[int], list[float]]:
        information = np.full(vectors.shape[1], _SMALLEST)
        open_rows = np.ones(vectors.shape[0], dtype=bool)
        picks: list[int] = []
        gains: list[float] = []
        while len(picks) < len(open_rows):
            slope = self.exponent * information ** (self.exponent - 1)
            gain = np.where(open_rows, vectors @ slope, -np.inf)
            best = int(gain.argmax())
            limit -= costs[best]
            if limit < 0:
                break
            picks.append(best)
            gains.append(float(gain[best]))
            open_rows[best] = False
            own = slice(vectors.indptr[best], vectors.indptr[best + 1])
            information[vectors.indices[own]] += vectors.data[own]
        return picks, gains
