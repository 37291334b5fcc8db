"""Keep a random sample: the baseline every other selector has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from siftune.curate.core.ranges import Seed
from siftune.curate.rows.budget import Budget, keep_best
from siftune.curate.rows.decisions import draws

__all__ = ["Random"]


@dataclass(frozen=True)
class Random(Budget):
    """Keeps a uniform sample without replacement; hard to beat, see Xia et al., arXiv:2410.09335.

    Each row has a number drawn from its content, its id and the seed, and the smallest are kept. So
    the order of the rows does not matter, and a larger sample with the same seed contains the
    smaller.

    Not for sets with many duplicates or faults, which it keeps in proportion: drop these first.

    Options:
        seed: Seed of the random sample: the same seed keeps the same rows.
    """

    seed: Seed = 0

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Draw a number for every row."""
        drawn = draws(table, self.seed)
        return keep_best(table, "draw", drawn, self, descending=False, reason="not_drawn")
