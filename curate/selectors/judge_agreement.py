"""Drop pairs whose label an LLM judge does not confirm in both orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.decisions import decide

__all__ = ["JudgeAgreement"]


@dataclass(frozen=True)
class JudgeAgreement:
    """Keeps a pair whose chosen answer the judge prefers, by the columns of `judge_pairwise`.

    Others are dropped as ``contradicted`` (the judge prefers the rejected answer in both orders),
    ``inconsistent`` (its orders disagree), ``tie`` or ``not_scored``. ``drop: contradicted`` keeps
    pairs that are ties or inconsistent.

    Not for pairs of equal answers, which a fair judge does not confirm either.

    Options:
        prefix: What the columns of the scorer begin with.
        drop: What is dropped: all that is not confirmed, or only what is contradicted.
    """

    prefix: str = "judge_pairwise"
    drop: Literal["unconfirmed", "contradicted"] = "unconfirmed"

    example: ClassVar = (("prefix", "judge_pairwise"),)
    renamed: ClassVar = (("by", "prefix"),)

    @property
    def needs(self) -> tuple[str, ...]:
        """Winner and consistency of each pair."""
        return (f"{self.prefix}_winner", f"{self.prefix}_consistent")

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same, as words and as true or false."""
        winner, consistent = self.needs
        return ((winner, _words), (consistent, _flags))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare each pair's label with the judge's verdict."""
        frame = table.select(winner=self.needs[0], agree=self.needs[1])
        reason = (
            pl.when(pl.col("winner").is_null())
            .then(pl.lit("not_scored"))
            .when(~pl.col("agree").fill_null(False))
            .then(pl.lit("inconsistent"))
            .when(pl.col("winner") == "tie")
            .then(pl.lit("tie"))
            .when(pl.col("winner") == "second")
            .then(pl.lit("contradicted"))
            .otherwise(pl.lit("confirmed"))
        )
        reasons = frame.select(reason=reason)["reason"]
        kept = ["confirmed"] if self.drop == "unconfirmed" else ["confirmed", "tie", "inconsistent"]
        return decide(reasons.is_in(kept), reasons, frame.select("winner"))


def _words(table: pl.DataFrame, name: str) -> pl.Series:
    return _of_type(table, name, pl.String())


def _flags(table: pl.DataFrame, name: str) -> pl.Series:
    return _of_type(table, name, pl.Boolean())


def _of_type(table: pl.DataFrame, name: str, kind: pl.DataType) -> pl.Series:
    column = table[name]
    if column.dtype != kind:
        raise UsageError(
            f"{name!r}: expected a column of the scorer judge_pairwise ({kind}), got {column.dtype}"
        )
    return column
