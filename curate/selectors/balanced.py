"""Pairs among which length does not predict the winner (or any two numbers of winner and loser)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import ColumnExpression, Count, Positive, Seed
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.decisions import decide, draws
from siftune.curate.rows.expressions import needs_of, reads_of, scores

__all__ = ["Balanced"]

_STREAM: Final = 0x62616C << 64
"""Seed offset for the draws: with those of `random`, a sample of kept rows would be biased."""

_EVEN: Final = 1.5  # rows of the more frequent kind for each row of the other: 60 % at most


@dataclass(frozen=True)
class Balanced:
    """Rows with ``first > second`` and with ``first < second``, in nearly even or even numbers.

    Judges often prefer the longer answer, and a model that trains on all such pairs learns length.
    Rows differ by ``|first - second| / max(|first|, |second|)``, in ``bins`` equal steps.

    By default the rows up to some step are kept, whichever won, and those beyond dropped as
    ``outweighed``: up to the last step at which the more frequent kind has at most 1.5 times the
    rows of the other (at least the first step that has rows). Since who won is not looked at within
    a step, the share of wrong labels stays what it is, but for chance.

    With a ``ratio`` every step keeps at most ``ratio`` times as many rows of one kind as of the
    other, and a random sample of the more frequent kind; with 1, neither the sign nor the size of
    the difference predicts the winner (length buckets as in ChatGLM-RLHF, arXiv:2404.00934). This
    **raises the share of wrong labels**, whatever sample is drawn: where the longer answer truly
    wins with probability p and a share f of the labels is wrong, (1 - p)f of the rows are longer
    winners by mistake and pf are shorter ones. Once both kinds count alike, wrong labels are
    ½ (1 - p)f / (p(1 - f) + (1 - p)f) + ½ pf / (pf + (1 - p)(1 - f)), which is f at p = ½ and more
    elsewhere. Use it where labels are clean.

    Rows where both are equal are kept.

    Not for finding wrong labels: it removes the advantage of length, and with it right labels too.

    Options:
        first: Column with the number of the winner, such as the scorer `length` adds, or an
            expression of columns.
        second: Column with the number of the loser, or an expression of columns.
        bins: Number of steps of the relative difference.
        ratio: Largest number of rows of the more frequent kind for each row of the other, in every
            step; none keeps or drops whole steps.
        seed: Seed of the random sample: the same seed keeps the same rows.
    """

    first: ColumnExpression = "chosen_length_chars"
    second: ColumnExpression = "rejected_length_chars"
    bins: Count = 10
    ratio: Positive | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise UsageError(f"balanced: bins must be at least 1; got {self.bins}")
        if self.ratio is not None and self.ratio < 1:
            raise UsageError(f"balanced: ratio must be at least 1; got {self.ratio}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The two columns that are compared."""
        return needs_of(self.first, self.second)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The two columns, as numbers."""
        return (*reads_of(self.first), *reads_of(self.second))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Assign every row to its step, and even out the two kinds."""
        sign = pl.col("sign")
        frame = self._binned(table)
        chosen = self._few_of_each(frame) if self.ratio is not None else _small_steps(frame)
        frame = frame.with_columns(chosen)
        reason = frame.select(
            reason=pl.when(sign.is_null())
            .then(pl.lit("not_scored"))
            .when(sign == 0)
            .then(pl.lit("equal"))
            .when(pl.col("chosen"))
            .then(pl.lit("balanced"))
            .otherwise(pl.lit("outweighed"))
        )["reason"]
        return decide(reason.is_in(["equal", "balanced"]), reason, frame.select("first", "second"))

    def _few_of_each(self, frame: pl.DataFrame) -> pl.Series:
        """Mask of a sample of each kind in each step."""
        sign = pl.col("sign")
        kinds = ((sign > 0).sum().over("bin"), (sign < 0).sum().over("bin"))
        places = (pl.min_horizontal(kinds) * self.ratio).floor()
        rank = pl.col("draw").rank("ordinal").over("bin", "sign")
        return frame.select(chosen=rank <= places).to_series()

    def _binned(self, table: pl.DataFrame) -> pl.DataFrame:
        """``first``, ``second``, the ``sign`` of their difference, its ``bin``, and a ``draw``."""
        first, second = pl.col("first"), pl.col("second")
        frame = pl.DataFrame(
            {
                "first": scores(table, self.first).cast(pl.Float64),
                "second": scores(table, self.second).cast(pl.Float64),
                "draw": draws(table, self.seed + _STREAM),
            }
        )
        apart = (first - second).abs() / pl.max_horizontal(first.abs(), second.abs())
        return frame.with_columns(
            sign=pl.when((first - second).is_finite()).then((first - second).sign()),
            bin=pl.when((first != second) & (first - second).is_finite()).then(
                (apart * self.bins).floor().cast(pl.Int32)
            ),
        )


def _small_steps(frame: pl.DataFrame) -> pl.Series:
    """Mask of the rows up to the last step at which the two kinds are nearly even."""
    sign = pl.col("sign")
    steps = frame.drop_nulls("bin").group_by("bin").agg((sign > 0).sum().alias("more"), n=pl.len())
    steps = steps.sort("bin").select("bin", pl.col("more", "n").cum_sum())
    less = pl.col("n") - pl.col("more")
    frequent, rare = pl.max_horizontal("more", less), pl.min_horizontal("more", less)
    even = steps.filter((frequent <= _EVEN * rare) | (pl.col("bin") == pl.col("bin").min()))
    last = even.select(pl.col("bin").max().fill_null(-1)).item()  # without rows that differ, none
    return frame.select(chosen=pl.col("bin") <= last).to_series()
