"""Keep the pairs whose margin lies in a range, in points, standard deviations or quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.columns import Reader, base_column, groups
from siftune.curate.rows.decisions import decide
from siftune.curate.rows.expressions import ColumnExpression, needs_of, reads_of, scores

__all__ = ["Margin"]


@dataclass(frozen=True)
class Margin:
    """Keeps a pair if ``min <= margin <= max``, in the unit that is named.

    Margins of several sources have several units: stars, log-odds, rewards. ``deviations`` divides
    by the root mean square of the margins, which keeps the sign and 0 (a pair whose rejected answer
    scored higher stays negative); ``quantiles`` is the share of margins below, ties half, from 0 to
    1. With ``group_by`` both are taken within each group, such as the source. Small margins are
    often noise, and the largest are easy pairs that teach little or errors of the reward model:
    look at both ends before cutting one. Reasons are ``below_threshold``, ``above_threshold`` and
    ``not_scored``, as a missing or infinite margin is.

    Not for margins of a model that was trained on the same pairs.

    Options:
        by: Column with the margin of chosen over rejected, or an expression of columns such as
            score_chosen - score_rejected.
        min: Smallest margin that is kept; none keeps all small ones.
        max: Largest margin that is kept; none keeps all large ones.
        unit: Unit of min and max: as in the column, root mean squares, or shares of pairs below.
        group_by: Column whose values are groups with units of their own; none takes all pairs.
    """

    by: ColumnExpression = "margin"
    min: float | None = None
    max: float | None = None
    unit: Literal["points", "deviations", "quantiles"] = "points"
    group_by: str | None = None

    one_of: ClassVar = ("min", "max")
    example: ClassVar = (("min", "0.5"),)

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise UsageError("margin: set min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise UsageError(f"margin: min {self.min} is above max {self.max}: nothing fits")
        if self.group_by is not None and self.unit == "points":
            raise UsageError("margin: group_by is for the units deviations and quantiles")

    @property
    def needs(self) -> tuple[str, ...]:
        """The margin, and the groups."""
        return (*needs_of(self.by), *((base_column(self.group_by),) if self.group_by else ()))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same, as numbers and as groups."""
        grouped: tuple[tuple[str, Reader], ...] = ()
        if self.group_by is not None:
            grouped = ((self.group_by, groups),)
        return (*reads_of(self.by), *grouped)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare every pair's margin with the bounds."""
        raw = scores(table, self.by).cast(pl.Float64)
        group = (
            groups(table, self.group_by) if self.group_by else pl.repeat("", len(raw), eager=True)
        )
        frame = pl.DataFrame({"margin": raw, "group": group}).with_columns(value=self._value())
        low, high = pl.lit(self.min, pl.Float64), pl.lit(self.max, pl.Float64)
        reason = frame.select(
            reason=pl.when(pl.col("value").is_null())
            .then(pl.lit("not_scored"))
            .when((pl.col("value") < low).fill_null(False))
            .then(pl.lit("below_threshold"))
            .when((pl.col("value") > high).fill_null(False))
            .then(pl.lit("above_threshold"))
            .otherwise(pl.lit("passed"))
        )["reason"]
        return decide(reason == "passed", reason, frame.select("margin", "value"))

    def _value(self) -> pl.Expr:
        margin = pl.col("margin")
        if self.unit == "points":
            return margin
        if self.unit == "deviations":
            largest = margin.abs().max()  # no square overflows; sorted sums know no order of rows
            scaled = (margin.abs().sort() / largest) ** 2
            size = (largest * scaled.mean().sqrt()).over("group")
            return pl.when(size > 0).then(margin / size).otherwise(margin)
        rank = margin.rank("average").over("group")
        return (rank - 0.5) / margin.count().over("group")
