"""Keep rows of every range of a value, in equal or given shares, such as short and long ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import ColumnExpression, Count, NonNegative, Seed, check_ranges
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.decisions import decide, draws
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.rows.shares import share_out

__all__ = ["Stratified"]

_STREAM: Final = 0x737472 << 64
"""Seed offset for the draws: with those of `random`, a sample of kept rows would be biased."""


@dataclass(frozen=True, kw_only=True)
class Stratified(Budget):
    """Rows are binned by ``value``; each bin has the same share of what is kept, or its own.

    The bins are ``bins`` ranges of equal width between the smallest and the largest value, or those
    between ``edges``, which belong to the bin above. Bins of equal numbers of rows are those of a
    rank: ``value: rank(length_words)``. Of a bin the best rows by ``by`` are kept, or a random
    sample. Numbers follow the shares as nearly as whole rows allow (the method of Sainte-Laguë;
    with ``tokens`` the shares are of tokens), and a bin with too few rows leaves its part to the
    others. Sampling in strata is Neyman's (1934).

    A row without a value or a score is ``not_scored``, one in a bin of share 0 ``no_share``, one
    that a bin has no place for ``over_quota``. Detail: the ``bin`` (from 1), its ``size``, the
    row's ``rank`` in it, and the ``value``.

    Not for values with few different numbers: take quota.

    Options:
        value: Column with a number, or an expression of columns, whose ranges are the strata.
        bins: Number of ranges of equal width; edges take their place.
        edges: Numbers, ascending, between one range and the next.
        shares: Share of each range, from the lowest to the highest, in any unit, such as 2,1,1;
            none gives all the same.
        by: Column with a score whose best rows are kept of each range, or an expression of columns;
            none keeps a random sample.
        seed: Seed of the random sample.
    """

    value: ColumnExpression
    bins: Count = 10
    edges: tuple[float, ...] | None = None
    shares: tuple[NonNegative, ...] | None = None
    by: ColumnExpression | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self)
        edges = self.edges or ()
        if list(edges) != sorted(set(edges)):
            raise UsageError(f"stratified: edges must ascend; got {edges}")
        if self.shares is not None and len(self.shares) != self._count:
            raise UsageError(
                f"stratified: expected a share of each of the {self._count} ranges, "
                f"got {len(self.shares)}"
            )
        if self.shares is not None and not any(self.shares):
            raise UsageError("stratified: expected a share above 0, got none")

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that are binned, that rank, count and group."""
        return (*needs_of(self.value, self.by), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same columns, as numbers and groups."""
        return (*reads_of(self.value), *reads_of(self.by), *super().reads)

    @property
    def _count(self) -> int:
        return self.bins if self.edges is None else len(self.edges) + 1

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        values = scores(table, self.value).cast(pl.Float64).to_numpy()
        score = draws(table, self.seed + _STREAM) if self.by is None else scores(table, self.by)
        usable = np.isfinite(values) & score.is_not_null().to_numpy() & self.known(table)
        bins = np.full(table.height, -1)
        bins[usable] = self._binned(values[usable])
        shares = np.ones(self._count) if self.shares is None else np.array(self.shares)
        found = share_out(table, self, bins, shares, score, descending=self.by is not None)
        frame = pl.DataFrame(
            {
                "bin": bins + 1,
                "rank": found.rank,
                "size": found.size,
                "value": pl.Series(values).fill_nan(None),
                "share": shares[bins],
                "keep": found.keep,
            }
        )
        reason = (
            pl.when(pl.col("bin") == 0)
            .then(pl.lit("not_scored"))
            .when(pl.col("share") == 0)
            .then(pl.lit("no_share"))
            .when("keep")
            .then(pl.lit("selected"))
            .otherwise(pl.lit("over_quota"))
        )
        reasons = frame.select(reason=reason)["reason"]
        return decide(found.keep, reasons, frame.select("bin", "rank", "size", "value"))

    def _binned(self, values: np.ndarray) -> np.ndarray:
        """The number of each value's bin, from 0."""
        if self.edges is not None:
            return np.searchsorted(np.array(self.edges, dtype=np.float64), values, side="right")
        low, high = (values.min() / 2, values.max() / 2) if len(values) else (0.0, 0.0)
        if low == high:
            return np.zeros(len(values), dtype=np.int64)
        share = (values / 2 - low) / (high - low)  # of halves, whose difference is finite
        binned: np.ndarray = np.minimum((share * self.bins).astype(np.int64), self.bins - 1)
        return binned
