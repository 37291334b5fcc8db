"""Making a selector's answer: one decision a row, with its reason and particulars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

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


_DIGEST: Final = 32  # letters of a digest of ours


def tie_order(table: pl.DataFrame, *by: pl.Series, descending: bool = True) -> np.ndarray:
    """Row numbers from best to worst: by the given columns, then ``digest``, then ``id``.

    Nulls (and NaN) come last, so that a row that was not scored never beats one that was.
    """
    keys = [*(_rank(column, descending) for column in by), _lead(table["digest"])]
    order = np.lexsort(keys[::-1])
    differs = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
    return _settled(order, np.concatenate([[True], differs])[: len(order)], table)


def _rank(column: pl.Series, descending: bool) -> np.ndarray:
    """Numbers from 1 that sort as the column is wanted, nulls last: numpy sorts those quickest."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
    rank = column.rank("dense", descending=descending).cast(pl.Int64)
    return rank.fill_null(len(column) + 1).to_numpy()


def _lead(digest: pl.Series) -> np.ndarray:
    """Numbers that sort as the digests' first bytes do, without a look at the strings."""
    if digest.null_count() or not (digest.str.len_bytes() == _DIGEST).all():
        return _rank(digest, descending=False)
    text = digest.to_arrow(compat_level=pl.CompatLevel.oldest())
    letters = np.frombuffer(text.buffers()[2] or b"", np.uint8)[text.offset * _DIGEST :]
    words = letters[: len(digest) * _DIGEST].view(">u8")[:: _DIGEST // 8]
    return words.astype(np.uint64)


def _settled(order: np.ndarray, first: np.ndarray, table: pl.DataFrame) -> np.ndarray:
    """``order`` with each run of equal keys (``first``: where one starts) by digest, then id."""
    places = np.flatnonzero(~(first & np.append(first[1:], True)))
    tied = table.select("digest", "id")[order[places]]
    tied = tied.with_columns(run=pl.Series(np.cumsum(first)[places]))
    settled = tied.select(pl.arg_sort_by("run", "digest", "id")).to_series().to_numpy()
    order[places] = order[places][settled]
    return order
