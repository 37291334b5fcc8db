"""Balanced difficulty filter: the prompts that a model neither always solves nor never."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.ranges import ColumnExpression, Natural, Share, check_ranges
from siftune.curate.rows.decisions import decide, tie_order
from siftune.curate.rows.expressions import ByColumn, scores

__all__ = ["BalancedDifficulty"]

_ROUNDING: Final = 1e-9  # .8 and 1 - .2 are not the same number


@dataclass(frozen=True)
class BalancedDifficulty(ByColumn):
    """Keeps a prompt if ``margin <= pass rate <= 1 - margin``; arXiv:2504.03380.

    The improvement that a policy gradient can expect of a prompt has a lower bound that grows with
    p (1 - p), largest at p = 1/2. So the paper cuts off easy prompts as far from 1/2 as hard ones.
    It filters the groups of each rollout while it trains; here rates of samples decide before the
    training (`pass_rate`). ``margin`` .2 is ours: what is kept has at least .64 of the largest
    p (1 - p).

    With ``rows`` at most so many are kept, those nearest to 1/2 first, ties by digest. Reasons:
    ``too_hard``, ``too_easy``, ``not_nearest`` (beyond ``rows``), ``not_scored`` where there is no
    rate.

    Not for rates of very few answers: of four, one prompt in sixteen at p = 1/2 passes none.

    Options:
        by: Column with the pass rate, from 0 to 1, or an expression of columns.
        margin: Distance from 0 and from 1 that a pass rate needs; 0 keeps all that have one.
        rows: Largest number of rows that is kept; none keeps all within the margin.
    """

    by: ColumnExpression = "pass_rate"
    margin: Share = 0.2
    rows: Natural | None = None

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.margin > 0.5:
            raise UsageError(
                f"balanced_difficulty: margin: expected at most 0.5, got {self.margin:g}: no "
                "rate is as far from 0 and from 1"
            )

    def most_kept(self, rows: int, sources: int | None = None) -> int:
        """The most rows that are kept of so many."""
        return rows if self.rows is None else min(rows, self.rows)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare every prompt's rate with the margin."""
        rate = scores(table, self.by).cast(pl.Float64).alias("value")
        if not rate.drop_nulls().is_between(0, 1).all():
            odd = rate.filter(~rate.is_between(0, 1))
            raise DataError(f"{self.by}: expected pass rates from 0 to 1, got {odd[0]}")
        low, high = self.margin - _ROUNDING, 1 - self.margin + _ROUNDING
        value = pl.col("value")
        reasons = rate.to_frame().select(
            pl.when(value.is_null())
            .then(pl.lit("not_scored"))
            .when(value < low)
            .then(pl.lit("too_hard"))
            .when(value > high)
            .then(pl.lit("too_easy"))
            .otherwise(pl.lit("balanced"))
        )
        reason = reasons.to_series().to_numpy().astype(object)
        order = tie_order(table, (rate - 0.5).abs().round(9), descending=False)
        inside = order[reason[order] == "balanced"]
        reason[inside[self.most_kept(len(inside)) :]] = "not_nearest"
        particulars = rate.to_frame().select(
            "value", by=pl.lit(self.by), margin=pl.lit(self.margin, dtype=pl.Float64)
        )
        keep: np.ndarray = reason == "balanced"
        return decide(keep, reason.tolist(), particulars)
