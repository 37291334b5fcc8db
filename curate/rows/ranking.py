"""Keeping the best rows by a number, and saying of every row where it came."""

from __future__ import annotations

import numpy as np
import polars as pl

from siftune.curate.rows.budget import Budget
from siftune.curate.rows.decisions import decide, tie_order

__all__ = ["keep_best"]


def keep_best(
    table: pl.DataFrame,
    by: str,
    scores: pl.Series,
    budget: Budget,
    *,
    descending: bool = True,
    reason: str | None = None,
) -> pl.DataFrame:
    """The decisions that keep the best rows by ``scores`` (null: unknown), called ``by``.

    Detail: ``by``, the row's ``value``, its ``rank`` (from 1, among the rows that can be ranked)
    and the ``cutoff``, the value of the last row kept. Rows that are passed over have ``reason``,
    or ``below_cutoff`` (``above_cutoff`` where small is good); a row without a score, or without a
    length where tokens are counted, is ``not_scored``.
    """
    scored = scores.is_not_null().to_numpy() & budget.known(table)
    order = tie_order(table, scores, descending=descending)
    order = order[scored[order]]
    taken = budget.take(table, order)
    keep = np.zeros(table.height, dtype=bool)
    keep[taken] = True
    passed_over = reason or ("below_cutoff" if descending else "above_cutoff")
    reasons = pl.Series(["not_scored", passed_over, "selected"])[scored + keep.astype(np.int64)]
    return decide(keep, reasons, _particulars(by, scores, order, taken))


def _particulars(by: str, scores: pl.Series, order: np.ndarray, taken: np.ndarray) -> pl.DataFrame:
    rank = np.zeros(len(scores), dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    cutoff = scores[int(taken[-1])] if len(taken) else None
    frame = pl.DataFrame({"value": scores, "rank": rank})
    return frame.select(
        by=pl.lit(by, dtype=pl.String),
        cutoff=pl.lit(cutoff, dtype=scores.dtype),
        rank=pl.when(pl.col("rank") > 0).then("rank"),
        value="value",
    )
