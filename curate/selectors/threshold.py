"""Keep the rows whose value lies between a minimum and a maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import ColumnExpression
from siftune.curate.rows.decisions import decide
from siftune.curate.rows.expressions import ByColumn, scores

__all__ = ["Threshold"]


@dataclass(frozen=True)
class Threshold(ByColumn):
    """Keeps a row if ``min <= value <= max``; a row without a value is dropped as ``not_scored``.

    A column of true and false counts as 1 and 0: ``max: 0`` keeps what is false.

    Not for a given number of rows: take top_k.

    Options:
        by: Column with a number (a score, extra.KEY of the raw row, a statistic of a list such as
            ifd.mean), or an expression of columns: chosen_length_words - rejected_length_words.
        min: Smallest value that is kept; none keeps all small ones.
        max: Largest value that is kept; none keeps all large ones.
    """

    by: ColumnExpression
    min: float | None = None
    max: float | None = None

    one_of: ClassVar = ("min", "max")

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise UsageError("threshold: set min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise UsageError(f"threshold: min {self.min} is above max {self.max}: nothing fits")

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare every row's value with the bounds."""
        low, high = pl.lit(self.min, dtype=pl.Float64), pl.lit(self.max, dtype=pl.Float64)
        value = pl.col("value")
        frame = pl.DataFrame({"value": scores(table, self.by)}).with_columns(
            reason=pl.when(value.is_null())
            .then(pl.lit("not_scored"))
            .when((value < low).fill_null(False))
            .then(pl.lit("below_threshold"))
            .when((value > high).fill_null(False))
            .then(pl.lit("above_threshold"))
            .otherwise(pl.lit("passed"))
        )
        particulars = frame.select("value", by=pl.lit(self.by), min=low, max=high)
        given = [name for name in ("min", "max") if getattr(self, name) is not None]
        return decide(
            frame["reason"] == "passed", frame["reason"], particulars.select("by", "value", *given)
        )
