"""Keep the k best rows by a score."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from siftune.curate.core.ranges import Natural
from siftune.curate.rows.budget import Budget, keep_best
from siftune.curate.rows.columns import Reader, base_column, numbers

__all__ = ["TopK"]


@dataclass(frozen=True)
class TopK:
    """Keeps the ``k`` rows with the largest value; ties go to the smaller digest, then id.

    A row without a value is never kept, even if fewer than ``k`` are left: ``not_scored``.

    Options:
        by: the column: a score, ``extra.KEY`` of the raw row, or a statistic such as ``ifd.mean``.
        k: how many rows to keep.
        descending: large is good; set it to false to keep the smallest.
    """

    by: str
    k: Natural
    descending: bool = True

    def __post_init__(self) -> None:
        self._budget()

    @property
    def needs(self) -> tuple[str, ...]:
        """The column that ranks."""
        return (base_column(self.by),)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The column, as numbers."""
        return ((self.by, numbers),)

    def most_kept(self, rows: int, sources: int | None = None) -> int:
        """The most rows that are kept of so many."""
        return self._budget().limit(rows)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Rank every row."""
        scores = numbers(table, self.by)
        return keep_best(table, self.by, scores, self._budget(), descending=self.descending)

    def _budget(self) -> Budget:
        return Budget(rows=self.k)
