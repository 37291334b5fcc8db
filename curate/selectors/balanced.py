"""Even out the pairs whose longer answer won and those whose shorter one did (or any numbers)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count, Positive, Seed
from siftune.curate.rows.columns import Reader, base_column, numbers
from siftune.curate.rows.decisions import decide, draws

__all__ = ["Balanced"]

_STREAM: Final = 0x62616C << 64
"""Seed offset for the draws: with those of `random`, a sample of kept rows would be biased."""


@dataclass(frozen=True)
class Balanced:
    """Rows with ``first > second`` and with ``first < second`` are kept in even numbers.

    Judges often prefer the longer answer, and a model that trains on all such pairs learns length.
    Here every one of ``bins`` equal steps of the relative difference
    ``|first - second| / max(|first|, |second|)`` keeps at most ``ratio`` times as many rows of one
    kind as of the other; with 1, neither the sign nor the size of the difference predicts the
    winner (length buckets as in ChatGLM-RLHF, arXiv:2404.00934), above 1 less than before. Of the
    more frequent kind a random sample is kept, the rest is dropped as ``outweighed``; rows where
    both are equal are kept.

    Options:
        first: Column with the number of the winner, such as the scorer `length` adds.
        second: Column with the number of the loser.
        bins: Number of bins of the relative difference that are balanced one by one.
        ratio: Largest number of rows of the more frequent kind for each row of the other.
        seed: Seed of the random sample: the same seed keeps the same rows.
    """

    first: str = "chosen_length_chars"
    second: str = "rejected_length_chars"
    bins: Count = 10
    ratio: Positive = 1.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise UsageError(f"balanced: bins must be at least 1; got {self.bins}")
        if self.ratio < 1:
            raise UsageError(f"balanced: ratio must be at least 1; got {self.ratio}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The two columns that are compared."""
        return tuple(dict.fromkeys((base_column(self.first), base_column(self.second))))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The two columns, as numbers."""
        return ((self.first, numbers), (self.second, numbers))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Assign every row to its bin, and even out the two kinds."""
        sign = pl.col("sign")
        kinds = ((sign > 0).sum().over("bin"), (sign < 0).sum().over("bin"))
        frame = self._binned(table).with_columns(
            rank=pl.col("draw").rank("ordinal").over("bin", "sign"),
            places=(pl.min_horizontal(kinds) * self.ratio).floor(),
        )
        reason = frame.select(
            reason=pl.when(sign.is_null())
            .then(pl.lit("not_scored"))
            .when(sign == 0)
            .then(pl.lit("equal"))
            .when(pl.col("rank") <= pl.col("places"))
            .then(pl.lit("balanced"))
            .otherwise(pl.lit("outweighed"))
        )["reason"]
        return decide(reason.is_in(["equal", "balanced"]), reason, frame.select("first", "second"))

    def _binned(self, table: pl.DataFrame) -> pl.DataFrame:
        """``first``, ``second``, the ``sign`` of their difference, its ``bin``, and a ``draw``."""
        first, second = pl.col("first"), pl.col("second")
        frame = pl.DataFrame(
            {
                "first": numbers(table, self.first).cast(pl.Float64),
                "second": numbers(table, self.second).cast(pl.Float64),
                "draw": draws(table, self.seed + _STREAM),
            }
        )
        apart = (first - second).abs() / pl.max_horizontal(first.abs(), second.abs())
        return frame.with_columns(
            sign=(first - second).sign(),
            bin=pl.when(first != second).then((apart * self.bins).floor().cast(pl.Int32)),
        )
