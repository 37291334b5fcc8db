"""Selective DPO: the easiest pairs by held-out loss, with their order from easy to hard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.core.ranges import Share, check_ranges
from siftune.curate.rows.budget import Budget, keep_best
from siftune.curate.rows.expressions import ByColumn, ColumnExpression, scores

__all__ = ["Selective"]


@dataclass(frozen=True)
class Selective(ByColumn):
    """Keeps the ``fraction`` of pairs with the lowest held-out DPO loss; arXiv:2502.09650.

    A pair's difficulty is the mean loss over models that were trained on halves of the data without
    it: six in the paper (three seeds, two halves), whose losses are columns here. It keeps 50 %
    (60 % for Gemma) and trains from easy to hard: ``selective_order`` is 1 for the easiest pair
    that is kept, and null for what is dropped. A loss on pairs that the model was trained on
    measures memory, not difficulty.

    Not for losses of a model that was trained on the same pairs: its easy pairs are those it has
    learned by heart.

    Options:
        by: Column with the mean held-out loss of each pair, or an expression of columns such as
            (loss_1 + loss_2) / 2.
        fraction: Share of the pairs that is kept.
    """

    by: ColumnExpression
    fraction: Share = 0.5

    adds: ClassVar[Mapping[str, type[pl.DataType]]] = {"selective_order": pl.UInt32}

    def __post_init__(self) -> None:
        check_ranges(self)

    def most_kept(self, rows: int, sources: int | None = None) -> int:
        """The most rows that are kept of so many."""
        return Budget(fraction=self.fraction).limit(rows)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Rank every pair by its loss, smallest first."""
        loss = scores(table, self.by)
        budget = Budget(fraction=self.fraction)
        decided = keep_best(table, self.by, loss, budget, descending=False)
        rank = decided["detail"].str.json_path_match("$.rank").cast(pl.UInt32)
        order = pl.when(decided["keep"]).then(rank).alias("selective_order")
        return decided.with_columns(order)
