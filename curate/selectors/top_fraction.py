"""Keep the best share of the rows by a score."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from siftune.curate.core.ranges import Share
from siftune.curate.rows.budget import Budget, keep_best
from siftune.curate.rows.columns import Reader, base_column, numbers

__all__ = ["TopFraction"]


@dataclass(frozen=True)
class TopFraction:
    """Keeps ``fraction`` of the rows, those with the largest value.

    The fraction is of all rows given, scored or not, rounded half up, at least one. Ties go to the
    smaller digest, then id. A row without a value is never kept: ``not_scored``.

    Options:
        by: Column with a number: a score, extra.KEY of the raw row, or a statistic such as
            ifd.mean.
        fraction: Share of the rows to keep, from 0 to 1.
        descending: Keep the largest values; false keeps the smallest.
    """

    by: str
    fraction: Share
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
        return Budget(fraction=self.fraction)
