"""Decisions of selectors: keep, reason and detail of each row; ties broken by digest and id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import orjson
import polars as pl

__all__ = ["DECISIONS", "decide", "decide_some", "detail", "details", "draws", "tie_order"]

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
    """The decision table of a mask, a reason (one, or one a row) and particulars.

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
    """The decision table of ``height`` rows of which only some have a decision.

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
    """Numbers from 1 that sort as the column does, nulls last: numpy sorts these fastest."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
    rank = column.rank("dense", descending=descending).cast(pl.Int64)
    return rank.fill_null(len(column) + 1).to_numpy()


def _lead(digest: pl.Series) -> np.ndarray:
    """Numbers that sort as the digests' first bytes do, without comparing strings."""
    if digest.null_count() or not (digest.str.len_bytes() == _DIGEST).all():
        return _rank(digest, descending=False)
    text = digest.to_arrow(compat_level=pl.CompatLevel.oldest())
    letters = np.frombuffer(text.buffers()[2] or b"", np.uint8)[text.offset * _DIGEST :]
    words = letters[: len(digest) * _DIGEST].view(">u8")[:: _DIGEST // 8]
    return words.astype(np.uint64)


def _settled(order: np.ndarray, first: np.ndarray, table: pl.DataFrame) -> np.ndarray:
    """``order`` with each run of equal keys (``first``: its starts) sorted by digest, then id."""
    places = np.flatnonzero(~(first & np.append(first[1:], True)))
    tied = table.select("digest", "id")[order[places]]
    tied = tied.with_columns(run=pl.Series(np.cumsum(first)[places]))
    settled = tied.select(pl.arg_sort_by("run", "digest", "id")).to_series().to_numpy()
    order[places] = order[places][settled]
    return order


def draws(table: pl.DataFrame, seed: int) -> pl.Series:
    """A uniform number in [0, 1) for each row: a keyed hash of its ``digest`` and ``id``.

    The number does not depend on the order of the rows or on other rows. Rows of equal content
    differ in ``id`` and so in their numbers.
    """
    key = seed.to_bytes(16, "little", signed=True)
    keyed = blake2b(digest_size=8, key=key)
    frame = table.select(text=pl.concat_str("digest", "id", separator="\0", ignore_nulls=True))
    hashes = b"".join([_digest(keyed, text) for text in frame["text"]])
    whole = np.frombuffer(hashes, dtype="<u8") >> np.uint64(11)  # 53 bits: exact as a float64
    return pl.Series("draw", whole.astype(np.float64) * 2.0**-53)


def _digest(keyed: blake2b, text: str) -> bytes:
    hashed = keyed.copy()
    hashed.update(text.encode())
    return hashed.digest()
