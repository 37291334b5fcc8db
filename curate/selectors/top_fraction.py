"""Keep the best share of the rows by a score."""

from __future__ import annotations

from dataclasses import dataclass

from siftune.curate.core.ranges import ColumnExpression, Positive, Seed, Share
from siftune.curate.rows.budget import BestByColumn, Budget

__all__ = ["TopFraction"]


@dataclass(frozen=True)
class TopFraction(BestByColumn):
    """Keeps ``fraction`` of the rows, those with the largest value.

    The fraction is of all rows given, scored or not, rounded half up, at least one. Ties go to the
    smaller digest, then id. A row without a value is never kept: ``not_scored``. With
    ``temperature`` rows are drawn without replacement, as in `top_k`.

    Not for diversity: the best rows by one score are often alike.

    Options:
        by: Column with a number (a score, extra.KEY of the raw row, a statistic such as
            ifd.mean), or an expression of columns such as rank(ifd) - 0.5 * z(length_words).
        fraction: Share of the rows to keep, from 0 to 1.
        descending: Keep the largest values; false keeps the smallest.
        temperature: Draw rows in proportion to exp(score / temperature), scores in standard
            deviations, in place of taking the best; a small one takes nearly the best, a large one
            nearly any.
        seed: Seed of the draw, with temperature.
    """

    by: ColumnExpression
    fraction: Share
    descending: bool = True
    temperature: Positive | None = None
    seed: Seed = 0

    @property
    def budget(self) -> Budget:
        """The share of the rows."""
        return Budget(fraction=self.fraction)
