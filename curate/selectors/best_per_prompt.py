"""Keep the best rows of each prompt by a score."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Natural
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader, groups
from siftune.curate.rows.decisions import decide, tie_order
from siftune.curate.rows.expressions import ColumnExpression, needs_of, reads_of, scores

__all__ = ["BestPerPrompt"]


@dataclass(frozen=True)
class BestPerPrompt:
    """Keeps the ``rows`` best rows of each prompt; ties go to the smaller digest, then id.

    Of conversations that is rejection sampling: the best of n answers. Of pairs it is one pair a
    prompt, such as the one with the largest margin or the least probable label noise
    (``descending: false``). Others are dropped as ``not_best``, rows without a score as
    ``not_scored``, and rows without a prompt as ``no_group``.

    Not for sets with one row for each prompt, of which all are kept.

    Options:
        by: Column with a score, or an expression of columns such as score_chosen - score_rejected.
        rows: Number of rows to keep of each prompt.
        descending: Take larger scores as better; false takes smaller ones.
    """

    by: ColumnExpression
    rows: Natural = 1
    descending: bool = True

    def __post_init__(self) -> None:
        Budget(rows=self.rows)
        if self.rows < 1:
            raise UsageError(f"best_per_prompt: rows must be at least 1; got {self.rows}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The score, and the prompt."""
        return ("content", *needs_of(self.by))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The score, as numbers."""
        return reads_of(self.by)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Rank the rows of each prompt."""
        value = scores(table, self.by)
        order = tie_order(table, value, descending=self.descending)
        frame = pl.DataFrame({"prompt": groups(table, "prompt"), "value": value})
        ranked = frame.with_row_index("at")[order].with_columns(
            rank=pl.int_range(pl.len()).over("prompt") + 1
        )
        ranked = ranked.sort("at").with_columns(
            reason=pl.when(pl.col("prompt").is_null())
            .then(pl.lit("no_group"))
            .when(pl.col("value").is_null())
            .then(pl.lit("not_scored"))
            .when(pl.col("rank") <= self.rows)
            .then(pl.lit("best"))
            .otherwise(pl.lit("not_best"))
        )
        shown = ranked.select("value", "rank", by=pl.lit(self.by))
        return decide(ranked["reason"] == "best", ranked["reason"], shown)
