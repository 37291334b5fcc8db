"""A budget shared out among groups in given proportions, for `stratified` and `mixture`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from siftune.curate.rows.budget import Budget
from siftune.curate.rows.decisions import tie_order

__all__ = ["Allotment", "share_out"]


@dataclass(frozen=True)
class Allotment:
    """Of each row (n,): whether it is kept, its rank in its group (0: none), the group's size."""

    keep: np.ndarray
    rank: np.ndarray
    size: np.ndarray


def share_out(
    table: pl.DataFrame,
    budget: Budget,
    group: np.ndarray,
    shares: np.ndarray,
    scores: pl.Series,
    *,
    descending: bool,
    fill: bool = True,
) -> Allotment:
    """Keep the best rows of each group, in proportion to ``shares``, until the budget is spent.

    Rows are taken in the order of ``(spent - cost / 2) / share``, where ``spent`` is what the row
    and the better rows of its group cost (rows, or tokens where the budget counts them). With rows
    this is the method of Sainte-Laguë, and any leading part has the shares as nearly as whole rows
    allow. A group that has no rows left leaves its part to the others, in proportion; without
    ``fill`` all end where the first group does.

    Args:
        table: the rows, with ``id`` and ``digest``, which break ties.
        budget: what is spent; a row of unknown cost is not kept.
        group: (n,) number of each row's group, -1 for none; smaller numbers win ties.
        shares: of each group, in any unit; a group of share 0 has no row kept.
        scores: of each row; one without a score is not kept.
        descending: whether large scores are good.
        fill: whether other groups take what is left of a group's part.
    """
    usable = budget.known(table) & scores.is_not_null().to_numpy() & (group >= 0)
    usable[usable] = shares[group[usable]] > 0
    order = tie_order(table, scores, descending=descending)
    order = order[usable[order]]
    frame = pl.DataFrame(
        {"at": order, "group": group[order], "cost": budget.costs(table)[order]}
    ).with_columns(
        share=pl.Series(shares, dtype=pl.Float64).gather(group[order]),
        spent=pl.col("cost").cum_sum().over("group"),
        rank=pl.int_range(1, pl.len() + 1).over("group"),
        size=pl.len().over("group"),
    )
    turns = frame.sort((pl.col("spent") - pl.col("cost") / 2) / pl.col("share"), "group", "rank")
    if not fill:
        end = (pl.col("spent") / pl.col("share")).max().over("group").min()
        turns = turns.filter(pl.col("spent") / pl.col("share") <= end * (1 + 1e-12))
    keep = np.zeros(table.height, dtype=bool)
    keep[budget.take(table, turns["at"].to_numpy())] = True
    rank, size = np.zeros((2, table.height), dtype=np.int64)
    rank[order], size[order] = frame["rank"].to_numpy(), frame["size"].to_numpy()
    return Allotment(keep, rank, size)
