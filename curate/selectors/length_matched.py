"""A subset of pairs in which the longer answer wins half of the time, at any difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count, Seed, Share
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.decisions import decide, draws, tie_order
from siftune.curate.rows.expressions import ColumnExpression, needs_of, reads_of, scores

__all__ = ["LengthMatched"]

_STREAM: Final = 0x6C6D << 64
"""Seed offset for the draws: with those of `random`, a sample of kept rows would be biased."""


@dataclass(frozen=True)
class LengthMatched:
    """Makes the difference of lengths symmetric: its sign is even in every step of its size.

    Pairs are put into ``bins`` steps of equal numbers by the size of ``log(chosen / rejected)``. In
    each, of the kind (longer won, or shorter won) that is more frequent only so many are kept that
    its share is at most ``.5 + tolerance``: the best by ``by``, or a random sample. The others are
    ``outweighed``; pairs of equal lengths are kept. On what is left, length alone is right half of
    the time: a fair set to measure judges and reward models on, and to train without length bias.

    Where long answers usually win, wrong labels gather among the pairs that the shorter one won,
    all of which stay; so find these first (`label_noise`). `balanced` is the milder form for
    training, which keeps the share of wrong labels.

    Not for training sets that are small: it may drop most pairs.

    Options:
        chosen: Column with the length of the chosen answer, or an expression of columns.
        rejected: Column with the length of the rejected answer.
        bins: Number of steps of the difference.
        tolerance: How far the share of pairs that the longer answer won may be from one half.
        by: Column with a score whose best rows are kept; none keeps a random sample.
        descending: Take larger scores as better; false takes smaller ones.
        seed: Seed of the random sample: the same seed keeps the same rows.
    """

    chosen: ColumnExpression = "chosen_length_chars"
    rejected: ColumnExpression = "rejected_length_chars"
    bins: Count = 10
    tolerance: Share = 0.0
    by: ColumnExpression | None = None
    descending: bool = True
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise UsageError(f"length_matched: bins must be at least 1; got {self.bins}")
        if not 0 <= self.tolerance < 0.5:
            raise UsageError(
                f"length_matched: tolerance must be from 0 to below 0.5; got {self.tolerance}"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """Both lengths, and the score."""
        return tuple(dict.fromkeys(needs_of(self.chosen, self.rejected, self.by)))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same, as numbers."""
        return (*reads_of(self.chosen), *reads_of(self.rejected), *reads_of(self.by))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Even out both kinds in each step."""
        sides = [scores(table, one).cast(pl.Float64) for one in (self.chosen, self.rejected)]
        frame = pl.DataFrame(dict(zip(("chosen", "rejected"), sides, strict=True)))
        if frame.select(pl.any_horizontal(pl.all() < 0).any()).item():
            raise UsageError("length_matched: expected lengths, found a negative number")
        gap = ((pl.col("chosen") + 1) / (pl.col("rejected") + 1)).log()
        frame = frame.with_columns(gap=gap).with_columns(step=self._steps(frame.select(gap)))
        frame = frame.with_columns(sign=pl.col("gap").sign(), rank=self._ranks(table, frame))
        kinds = [(pl.col("sign") == sign).sum().over("step") for sign in (1, -1)]
        most = (pl.min_horizontal(kinds) * self._ratio + 1e-9).floor()
        reason = frame.select(
            reason=pl.when(pl.col("sign").is_null())
            .then(pl.lit("not_scored"))
            .when(pl.col("sign") == 0)
            .then(pl.lit("equal"))
            .when(pl.col("rank") <= most)
            .then(pl.lit("matched"))
            .otherwise(pl.lit("outweighed"))
        )["reason"]
        return decide(reason.is_in(["equal", "matched"]), reason, frame.select("gap", "step"))

    @property
    def _ratio(self) -> float:
        """Rows of the more frequent kind for each row of the other."""
        return (0.5 + self.tolerance) / (0.5 - self.tolerance)

    def _steps(self, gaps: pl.DataFrame) -> pl.Series:
        """The step of each pair, by quantiles of the size of the gap."""
        size = gaps.to_series().abs()
        apart = size.filter(size > 0).to_numpy()
        edges = np.quantile(apart, np.linspace(0, 1, self.bins + 1)[1:-1]) if len(apart) else []
        step = np.searchsorted(np.asarray(edges), size.fill_null(0).to_numpy(), side="right")
        return pl.Series("step", step, dtype=pl.Int64)

    def _ranks(self, table: pl.DataFrame, frame: pl.DataFrame) -> pl.Series:
        """The rank of each pair among those of its step and kind, from 1, the best first."""
        best = draws(table, self.seed + _STREAM) if self.by is None else scores(table, self.by)
        order = tie_order(table, best, descending=self.by is None or self.descending)
        signed = frame.with_columns(sign=pl.col("gap").sign()).with_row_index("at")[order]
        ranked = signed.with_columns(rank=pl.int_range(pl.len()).over("step", "sign") + 1)
        return ranked.sort("at")["rank"]
