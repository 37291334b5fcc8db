"""Quota: keep at most so many rows of each source, topic or other value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import ColumnExpression, Natural, Seed
from siftune.curate.rows.budget import groups_needed, refuse_unknown_groups
from siftune.curate.rows.columns import Reader, groups
from siftune.curate.rows.decisions import decide, draws, tie_order
from siftune.curate.rows.expressions import needs_of, reads_of, scores

__all__ = ["Quota"]


@dataclass(frozen=True)
class Quota:
    """Keeps at most ``rows`` rows of each value of ``group_by``: the best by score, or a sample.

    A row without a value of ``group_by`` is dropped as ``no_group``, one whose value the mapping
    does not name as ``not_in_quota``, one without a score as ``not_scored``. Ties go to the smaller
    digest, then id.

    Not for ranking over groups: each group has its own best rows.

    Options:
        group_by: Column whose values are the groups, such as source, prompt or extra.topic.
        rows: Number of rows to keep of each group, or of each group by name, such as
            web=100,books=50.
        by: Column with a score whose best rows are kept of each group, or an expression of columns;
            none keeps a random sample.
        descending: Take larger values of ``by`` as better; false takes smaller ones.
        seed: Seed of the random sample: the same seed keeps the same rows.
    """

    group_by: str
    rows: Natural | Mapping[str, Natural]
    by: ColumnExpression | None = None
    descending: bool = True
    seed: Seed = 0

    example: ClassVar = (("group_by", "source"),)
    renamed: ClassVar = (("rank_by", "by"), ("by", "group_by"))

    def __post_init__(self) -> None:
        counts = list(self.rows.values()) if isinstance(self.rows, Mapping) else [self.rows]
        if any(count < 0 for count in counts):
            raise UsageError(f"quota: rows must not be negative; got {self.rows}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The column that groups and the one that ranks."""
        return (*groups_needed(self.group_by), *needs_of(self.by))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The column that groups, and the one that ranks."""
        return ((self.group_by, groups), *reads_of(self.by))

    def most_kept(self, rows: int, sources: int | None = None) -> int:
        """The most rows that are kept of so many; all, where the number of values is unknown."""
        if isinstance(self.rows, Mapping):
            return min(rows, sum(self.rows.values()))
        return min(rows, self.rows * sources) if self.group_by == "source" and sources else rows

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Keep the best rows of every group, up to its quota."""
        frame = self._ranked(table)
        rank, quota = pl.col("rank"), pl.col("quota")
        frame = frame.with_columns(
            reason=pl.when(pl.col("group").is_null())
            .then(pl.lit("no_group"))
            .when(quota.is_null())
            .then(pl.lit("not_in_quota"))
            .when(pl.col("score").is_null())
            .then(pl.lit("not_scored"))
            .when(rank > quota)
            .then(pl.lit("over_quota"))
            .otherwise(pl.lit("selected"))
        )
        particulars = frame.select("group", "rank", "quota", group_by=pl.lit(self.group_by))
        if self.by is not None:
            particulars = particulars.with_columns(by=pl.lit(self.by), value=frame["score"])
        return decide(frame["reason"] == "selected", frame["reason"], particulars)

    def _ranked(self, table: pl.DataFrame) -> pl.DataFrame:
        """``group``, ``quota``, ``score`` and ``rank`` (from 1, of the scored rows of a group)."""
        if self.by is None:
            score, descending = draws(table, self.seed), False
        else:
            score, descending = scores(table, self.by), self.descending
        group = groups(table, self.group_by)
        place = np.empty(table.height, dtype=np.int64)
        place[tie_order(table, score, descending=descending)] = np.arange(table.height)
        frame = pl.DataFrame({"group": group, "score": score, "place": place})
        ranked = pl.when(pl.col("score").is_not_null()).then("place").rank("ordinal").over("group")
        return frame.with_columns(quota=self._quota(frame["group"]), rank=ranked)

    def _quota(self, group: pl.Series) -> pl.Series:
        if not isinstance(self.rows, Mapping):
            return pl.Series("quota", [self.rows], dtype=pl.Int64).new_from_index(0, group.len())
        refuse_unknown_groups(self.rows, group, self.group_by)
        return group.replace_strict(dict(self.rows), default=None, return_dtype=pl.Int64)
