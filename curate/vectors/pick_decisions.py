"""Decisions of a selector that picks some vectors, each of which represents others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from siftune.curate.rows.decisions import decide_some
from siftune.curate.vectors.unit_vectors import Vectors

__all__ = ["decide_picks"]


def decide_picks(
    ids: pl.Series,
    vectors: Vectors,
    picks: np.ndarray,
    nearest: np.ndarray,
    *,
    kept: Mapping[str, np.ndarray],
    dropped: Mapping[str, np.ndarray],
    reason: str = "covered",
) -> pl.DataFrame:
    """The decision table for the rows ``ids``.

    Args:
        ids: of all rows of the table.
        vectors: the rows that could be picked; the others are ``not_scored``.
        picks: (k,) the vectors kept, in order.
        nearest: (n,) for each vector the index in ``picks`` of the one that represents it.
        kept: further details of a kept row, besides its ``order``; (n,) values each.
        dropped: further details of a dropped row, besides the id of its ``nearest`` kept row.
        reason: of a dropped row; ``over_budget`` if nothing was kept.
    """
    order = np.zeros(len(vectors.rows), dtype=np.int64)
    order[picks] = np.arange(1, len(picks) + 1)
    representatives = vectors.rows[picks[nearest]] if len(picks) else vectors.rows
    frame = pl.DataFrame(
        {"row": vectors.rows, "order": order, "nearest": ids.gather(representatives)}
    )
    picked = pl.col("order") > 0
    if not len(picks):
        picked, reason, dropped = pl.lit(False), "over_budget", {}
    decided = frame.select(
        "row",
        keep=picked,
        reason=pl.when(picked).then(pl.lit("selected")).otherwise(pl.lit(reason)),
        detail=pl.when(picked)
        .then(_details(frame, "order", kept))
        .otherwise(_details(frame, "nearest", dropped) if len(picks) else None),
    )
    return decide_some(len(ids), decided)


def _details(frame: pl.DataFrame, first: str, more: Mapping[str, np.ndarray]) -> pl.Series:
    columns = frame.select(first).with_columns(pl.Series(key, more[key]) for key in more)
    return columns.select(pl.struct(sorted(columns.columns)).struct.json_encode()).to_series()
