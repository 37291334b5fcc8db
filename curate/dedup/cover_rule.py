"""The cover rule: which rows survive when near-duplicates are dropped, and which covers which.

Rows are visited from best to worst (`best_first`: score, then content, never input order). A row is
dropped if and only if a row kept before it is at or above the threshold; its survivor is the most
similar of these, the better one of equally similar ones. So each dropped row has a better survivor
at or above the threshold, no two survivors are that similar, and the result depends on the rows
alone. (Keeping one row per connected component, the usual rule, drops rows that resemble no
survivor.)

`set_cover` and `group_cover` apply the rule to sets, `vectors.cosine_neighbors` to vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.core.progress import log_metrics
from siftune.curate.rows.decisions import DECISIONS, tie_order
from siftune.curate.rows.expressions import needs_of, sort_keys

__all__ = ["Cover", "best_first", "duplicate_decisions", "naming_guarded", "ranking_columns"]

Ints: TypeAlias = npt.NDArray[np.int64]


class Cover(NamedTuple):
    """``survivor`` (n,): the row that covers each row, -1 if it is kept; ``similarity`` (n,).

    ``guarded`` (n,): of a row kept because a guard refused all that are similar, one of these, the
    most similar where ``guarded_similarity`` is given; else -1.
    """

    survivor: Ints
    similarity: npt.NDArray[np.float64]
    guarded: Ints
    guarded_similarity: npt.NDArray[np.float64] | None = None


def ranking_columns(by: str | None, prefer_source: Sequence[str]) -> tuple[str, ...]:
    """Columns that `best_first` reads besides ``id`` and ``digest``."""
    source = ("source",) if prefer_source else ()
    return (*source, *needs_of(by))


def best_first(
    table: pl.DataFrame,
    rows: Any,
    by: str | None,
    prefer_source: Sequence[str],
    *,
    descending: bool,
    more: Sequence[pl.Series] = (),
) -> np.ndarray:
    """Positions in ``rows`` (row numbers of ``table``), from best to worst.

    Rows of the sources in ``prefer_source`` come first, in that order, then those of all others;
    within a source the best by the score ``by``, then by the columns ``more`` (a value for each of
    ``rows``), then by digest and id.
    """
    some = table.select("id", "digest", *ranking_columns(None, prefer_source))[rows]
    keys = []
    if prefer_source:
        ranks = {name: rank for rank, name in reversed([*enumerate(prefer_source)])}
        rank = some["source"].replace_strict(ranks, default=len(ranks), return_dtype=pl.Int64)
        keys.append(-rank if descending else rank)
    if by:
        keys.append(sort_keys(table, by).gather(rows))
    return tie_order(some, *keys, *more, descending=descending)


def duplicate_decisions(
    ids: pl.Series,
    dropped: Ints,
    survivor: Ints,
    similarity: npt.NDArray[np.float64],
    reason: str,
    skipped: tuple[Ints, str],
    reference: pl.Series | None = None,
    match: pl.Series | None = None,
) -> pl.DataFrame:
    """The decisions of a deduplicator: keep, reason and detail of each row.

    The detail of a dropped row is ``{"similarity", "survivor"}``. A kept row is ``unique``, or a
    ``survivor`` with the size of its group, itself included, as ``{"group"}``.

    Args:
        ids: of all rows.
        dropped: row numbers, each once.
        survivor: row number of the survivor of each dropped row; from ``len(ids)`` on, rows of
            ``reference``.
        similarity: of each dropped row to its survivor.
        reason: of the dropped rows; ``{reason}_of_reference`` if the survivor is a reference row.
        skipped: numbers of the rows that could not be compared, and the reason they are kept.
        reference: ids of the reference rows.
        match: how each dropped row is like its survivor, also in its detail.
    """
    height = len(ids)
    all_ids = ids if reference is None else ids.append(reference)
    heads, others = np.unique(survivor[survivor < height], return_counts=True)
    code = np.zeros(height, np.int8)
    code[skipped[0]], code[heads], code[dropped] = 4, 1, np.where(survivor < height, 2, 3)
    reasons = pl.Series(["unique", "survivor", reason, f"{reason}_of_reference", skipped[1]])
    covered = pl.DataFrame({"similarity": similarity, "survivor": all_ids[survivor]})
    if match is not None:
        covered.insert_column(0, match.alias("match"))
    groups = pl.DataFrame({"group": others + 1})
    details = pl.concat([_json(covered), _json(groups), pl.Series([None], dtype=pl.String)])
    index = np.full(height, len(details) - 1)
    index[dropped] = np.arange(len(dropped))
    index[heads] = np.arange(len(heads)) + len(dropped)
    return pl.DataFrame(
        {"keep": (code < 2) | (code == 4), "reason": reasons[code], "detail": details[index]},
        schema=DECISIONS,
    )


def naming_guarded(
    decisions: pl.DataFrame, ids: pl.Series, rows: Ints, cover: Cover
) -> pl.DataFrame:
    """The decisions, with ``kept_by_guard`` for unique rows that a guard kept; their number logged.

    The detail is ``{"near", "similarity"}``: the row that is similar, and how much.

    Args:
        decisions: of the rows ``ids``.
        ids: of all rows, and then of the reference rows.
        rows: row number of each position of the cover.
        cover: with ``guarded_similarity``.
    """
    kept = np.flatnonzero(cover.guarded >= 0)
    log_metrics(kept_by_guard=len(kept))
    assert cover.guarded_similarity is not None
    others = {"near": ids[rows[cover.guarded[kept]]], "similarity": cover.guarded_similarity[kept]}
    numbers, named = rows[kept], _json(pl.DataFrame(others))
    unique = (decisions["reason"][numbers] == "unique").to_numpy()
    reasons = decisions["reason"].scatter(numbers[unique], "kept_by_guard")
    details = decisions["detail"].scatter(numbers[unique], named.filter(pl.Series(unique)))
    return decisions.with_columns(reason=reasons, detail=details)


def _json(frame: pl.DataFrame) -> pl.Series:
    return frame.select(detail=pl.struct(pl.all()).struct.json_encode()).to_series()
