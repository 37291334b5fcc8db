"""Making a selector's answer: one decision a row, with its reason and particulars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import polars as pl

__all__ = ["DECISIONS", "decide", "decide_some", "detail", "details", "tie_order"]

DECISIONS: Mapping[str, type[pl.DataType]] = {
    "keep": pl.Boolean,
    "reason": pl.String,
    "detail": pl.String,
}


def decide(
    keep: Any,
    reason: Any,
    particulars: Sequence[Mapping[str, Any] | None] | pl.Series | pl.DataFrame | None = None,
) -> pl.DataFrame:
    """A selector's table from a mask, a reason (one, or one a row) and particulars.

    Particulars are a mapping a row, a frame with a column each, or JSON text already.
    """
    mask = pl.Series("keep", keep, dtype=pl.Boolean)
    reasons = [reason] * len(mask) if isinstance(reason, str) else reason
    columns = {
        "keep": mask,
        "reason": pl.Series(reasons, dtype=pl.String),
        "detail": _texts(particulars, len(mask)),
    }
    return pl.DataFrame(columns, schema=DECISIONS)


def decide_some(height: int, decided: pl.DataFrame) -> pl.DataFrame:
    """A selector's table for ``height`` rows of which only some were looked at.

    ``decided`` has ``row`` (its number), ``keep``, ``reason`` and ``detail`` of these; the others
    are dropped as ``not_scored``.
    """
    every = pl.DataFrame({"row": pl.int_range(height, eager=True)})
    decided = decided.cast({"row": pl.Int64})
    answer = every.join(decided, on="row", how="left", maintain_order="left").with_columns(
        pl.col("keep").fill_null(False), pl.col("reason").fill_null("not_scored")
    )
    return decide(answer["keep"], answer["reason"], answer["detail"])


def _texts(
    particulars: Sequence[Mapping[str, Any] | None] | pl.Series | pl.DataFrame | None, height: int
) -> pl.Series:
    if particulars is None:
        return pl.Series([None] * height, dtype=pl.String)
    if isinstance(particulars, pl.DataFrame):
        return details(particulars)
    if isinstance(particulars, pl.Series):
        return particulars
    return pl.Series(
        [None if item is None else detail(**item) for item in particulars], dtype=pl.String
    )


def detail(**particulars: Any) -> str:
    """Particulars of one decision as a JSON object with sorted keys.

    >>> detail(survivor="a:3", similarity=0.9)
    '{"similarity":0.9,"survivor":"a:3"}'
    """
    options = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(particulars, option=options).decode()


def details(particulars: pl.DataFrame) -> pl.Series:
    """Particulars of many decisions, a column each, as JSON objects with sorted keys.

    JSON has no infinity and no NaN: they are written as null.
    """
    whole = pl.struct(sorted(particulars.columns)).struct.json_encode()
    return particulars.select(detail=whole)["detail"]


def tie_order(table: pl.DataFrame, *by: pl.Series, descending: bool = True) -> np.ndarray:
    """Row numbers from best to worst: by the given columns, then ``digest``, then ``id``.

    Nulls (and NaN) come last, so that a row that was not scored never beats one that was.
    """
    keys = pl.DataFrame(
        [column.alias(f"k{i}") for i, column in enumerate(by)] + [table["digest"], table["id"]]
    ).with_row_index("_at")
    floats = [name for name in keys.columns if keys[name].dtype.is_float()]
    keys = keys.with_columns(pl.col(name).fill_nan(None) for name in floats)
    columns = [f"k{i}" for i in range(len(by))]
    direction = [descending] * len(by) + [False, False]
    ordered = keys.sort([*columns, "digest", "id"], descending=direction, nulls_last=True)
    return ordered["_at"].to_numpy()
