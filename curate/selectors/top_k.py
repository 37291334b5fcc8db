"""Keep so many rows, the best by a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import ColumnExpression, Natural, Positive, Seed
from siftune.curate.rows.budget import BestByColumn, Budget

__all__ = ["TopK"]


@dataclass(frozen=True)
class TopK(BestByColumn):
    """Keeps the ``rows`` rows with the largest value; ties go to the smaller digest, then id.

    A row without a value, or with an infinite one, is never kept, even if fewer than ``rows`` are
    left: ``not_scored``. With ``temperature`` rows are drawn without replacement, each in
    proportion to exp(score / temperature) among those that are left, as in QuRating,
    arXiv:2402.09739, which prefers a draw at temperature 2 to the best rows.

    In an expression ``rank(x)`` is the share of the other rows with a smaller x, and ``z(x)`` the
    standard score, both over all rows that the stage is given; a row that lacks an operand, or has
    no finite result, has no value. A name with odd characters is put in backquotes.

    Not for diversity: the best rows by one score are often alike.

    Options:
        by: Column with a number (a score, extra.KEY of the raw row, a statistic such as
            ifd.mean), or an expression of columns such as rank(ifd) - 0.5 * z(length_words).
        descending: Keep the largest values; false keeps the smallest.
        rows: Number of rows to keep.
        temperature: Draw rows in proportion to exp(score / temperature), scores in standard
            deviations, in place of taking the best; a small one takes nearly the best, a large one
            nearly any.
        seed: Seed of the draw, with temperature.
    """

    by: ColumnExpression
    rows: Natural
    descending: bool = True
    temperature: Positive | None = None
    seed: Seed = 0

    renamed: ClassVar = (("k", "rows"),)

    @property
    def budget(self) -> Budget:
        """So many rows."""
        return Budget(rows=self.rows)
