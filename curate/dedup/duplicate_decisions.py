"""What a deduplicator says about each row: alone, survivor of a group, or covered by a survivor."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.rows.decisions import DECISIONS

__all__ = ["verdicts"]

_Ints: TypeAlias = npt.NDArray[np.int64]


def verdicts(
    ids: pl.Series,
    dropped: _Ints,
    survivor: _Ints,
    similarity: npt.NDArray[np.float64],
    reason: str,
    skipped: tuple[_Ints, str],
    reference: pl.Series | None = None,
) -> pl.DataFrame:
    """The decisions of a deduplicator.

    A dropped row's detail is ``{"similarity", "survivor"}``; a kept row is a ``survivor`` with the
    number of rows it stands for, itself included, as ``{"group"}``, or ``unique``.

    Args:
        ids: of all rows.
        dropped: row numbers, each once.
        survivor: row number of each one's survivor; from ``len(ids)`` on, rows of ``reference``.
        similarity: of each dropped row to its survivor.
        reason: for the dropped rows; ``{reason}_of_reference`` where the survivor is a reference.
        skipped: numbers of the rows that could not be compared, and why they are kept.
        reference: ids of the rows the others are held against.
    """
    height = len(ids)
    known = ids if reference is None else ids.append(reference)
    heads, others = np.unique(survivor[survivor < height], return_counts=True)
    code = np.zeros(height, np.int8)
    code[skipped[0]], code[heads], code[dropped] = 4, 1, np.where(survivor < height, 2, 3)
    reasons = pl.Series(["unique", "survivor", reason, f"{reason}_of_reference", skipped[1]])
    covered = pl.DataFrame({"similarity": similarity, "survivor": known[survivor]})
    groups = pl.DataFrame({"group": others + 1})
    details = pl.concat([_json(covered), _json(groups), pl.Series([None], dtype=pl.String)])
    at = np.full(height, len(details) - 1)
    at[dropped] = np.arange(len(dropped))
    at[heads] = np.arange(len(heads)) + len(dropped)
    return pl.DataFrame(
        {"keep": (code < 2) | (code == 4), "reason": reasons[code], "detail": details[at]},
        schema=DECISIONS,
    )


def _json(frame: pl.DataFrame) -> pl.Series:
    return frame.select(detail=pl.struct(pl.all()).struct.json_encode()).to_series()
