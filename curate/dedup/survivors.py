"""Which of several duplicate rows survives: by its source, by a score, then by digest and id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from siftune.curate.rows.columns import base_column, values
from siftune.curate.rows.decisions import tie_order

__all__ = ["best_first", "ranking_columns"]


def ranking_columns(by: str | None, prefer_source: Sequence[str]) -> tuple[str, ...]:
    """The columns that `best_first` reads besides ``id`` and ``digest``."""
    source = ("source",) if prefer_source else ()
    return (*source, *((base_column(by),) if by else ()))


def best_first(
    table: pl.DataFrame,
    rows: Any,
    by: str | None,
    prefer_source: Sequence[str],
    *,
    descending: bool,
) -> np.ndarray:
    """Places in ``rows`` (row numbers of ``table``) from best to worst.

    Rows of the sources in ``prefer_source`` come first, in that order, then those of all others;
    of one source the best by the score ``by``. Texts are not carried along.
    """
    columns = dict.fromkeys(["id", "digest", *ranking_columns(by, prefer_source)])
    some = table.select(list(columns))[rows]
    keys = []
    if prefer_source:
        place = {name: at for at, name in reversed([*enumerate(prefer_source)])}
        rank = some["source"].replace_strict(place, default=len(place), return_dtype=pl.Int64)
        keys.append(-rank if descending else rank)
    if by:
        keys.append(values(some, by))
    return tie_order(some, *keys, descending=descending)
