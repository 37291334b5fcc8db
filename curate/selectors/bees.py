"""BeeS: the pairs with the largest preference probability, aggregated from several margins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Positive
from siftune.curate.rows.budget import Budget, keep_best
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.expressions import needs_of, reads_of, scores

__all__ = ["BeeS"]

_EDGE: Final = 1e-3
"""Nearest that a probability of one source comes to 0 and 1, so that none overrules all others."""


@dataclass(frozen=True)
class BeeS(Budget):
    """Keeps the pairs that all margins together are surest of; arXiv:2502.14560.

    Each margin m (chosen minus rejected, of a reward model, or DPO's implicit one) is cut to ±c and
    mapped to a probability in a line, ``p = (m + c) / 2c``, so that no margin is one half. Sources
    are taken as independent given the true order, which gives ``P = Π p / (Π p + Π (1 - p))``. The
    paper takes the bounds for each source by hand; here c is ``bound`` times the root mean square
    of the source's margins, so units do not matter and the sign keeps its meaning. A p is held
    between .001 and .999, lest one source overrule all others. The paper keeps a tenth.

    A pair that lacks one of the margins is ``not_scored``. `difficulty` keeps what this drops: the
    two papers contradict each other, and which is right depends on how noisy the labels are.

    Not for margins that are all one model's: they agree with themselves.

    Options:
        margins: Columns of margins, or expressions such as score_chosen - score_rejected, with
            commas between.
        bound: Largest margin that counts, in root mean squares of its column.
    """

    margins: tuple[str, ...] = ("margin",)
    bound: Positive = 2.0

    example: ClassVar = (("fraction", "0.1"),)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.margins:
            raise UsageError("bees: name at least one column of margins")
        if self.bound <= 0:
            raise UsageError(f"bees: bound must be above 0; got {self.bound}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The margins, and what the budget reads."""
        return (*super().needs, *needs_of(*self.margins))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same, as numbers."""
        return (*super().reads, *(pair for one in self.margins for pair in reads_of(one)))

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Rank every pair by its aggregated probability."""
        columns = [scores(table, one).cast(pl.Float64).to_numpy() for one in self.margins]
        log_odds = np.sum([self._log_odds(one) for one in columns], axis=0)
        probability = 1 / (1 + np.exp(-log_odds))
        return keep_best(
            table, "preference_probability", pl.Series(probability).fill_nan(None), self
        )

    def _log_odds(self, margin: np.ndarray) -> np.ndarray:
        largest = np.abs(margin[np.isfinite(margin)]).max(initial=0.0)
        margin = margin / 2.0 ** np.frexp(largest)[1]  # no square overflows, nothing is rounded
        known = np.sort(margin[np.isfinite(margin)] ** 2)  # the order of rows must not round it
        size = float(np.sqrt(known.mean())) if len(known) else 0.0
        most = self.bound * size if size > 0 else 1.0
        p = np.clip((np.clip(margin, -most, most) + most) / (2 * most), _EDGE, 1 - _EDGE)
        return np.asarray(np.log(p) - np.log1p(-p))
