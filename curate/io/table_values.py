"""Python values of the rows of Arrow batches, or the reason why a row cannot be converted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.io.expansion_limits import children

__all__ = ["values"]

_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY: Final = 24 * 60 * 60


def values(batch: pa.RecordBatch) -> list[Row | BadRow]:
    """The rows of a batch, or the error of a row.

    A row has an error where a text is not UTF-8, a time is out of Python's range, or a struct has
    two fields of one name.
    """
    try:
        if not any(map(_has_wrong_time, batch.columns)):
            rows: list[Row | BadRow] = batch.to_pylist()
            return rows
    except _NO_VALUE:
        pass
    return [_row(batch[at : at + 1]) for at in range(batch.num_rows)]


_NO_VALUE: Final = (ValueError, OverflowError, ArithmeticError, LookupError)
"""What `to_pylist` raises; Arrow's own errors are among them."""


def _row(row: pa.RecordBatch) -> Row | BadRow:
    record: Row = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            if _has_wrong_time(column):
                raise OverflowError("a time of day beyond 24 hours")
            record[name] = column.to_pylist()[0]
        except _NO_VALUE as error:
            return _bad(name, column.type, error)
    return record


def _bad(name: str, kind: pa.DataType, error: Exception) -> BadRow:
    if isinstance(error, UnicodeDecodeError):
        return BadRow("invalid_utf8", f"a text is not UTF-8 ({error.reason})")
    what = f"a value of {str(name)[:40]!r} ({str(kind)[:60]}) cannot be read"
    detail = f"{what}: {_why(error)}; leave the column out, or make it text"
    return BadRow("no_value", detail)


def _why(error: Exception) -> str:
    text = str(error)
    if "zoneinfo" in text:  # Arrow's error for an unknown time zone
        return "its time zone is not known here"
    if "duplicate field" in text:
        return "two of its fields have one name"
    return text.partition("\n")[0][:120]


def _has_wrong_time(array: pa.Array) -> bool:
    """Whether a time of day is beyond a day, which Python would wrap in silence."""
    return any(map(_is_wrong_time, _times(array)))


def _times(array: pa.Array) -> Iterator[pa.Array]:
    if pa.types.is_time(array.type):
        yield array
    elif pa.types.is_dictionary(array.type):
        yield from _times(array.dictionary)
    elif len(array) and (pa.types.is_nested(array.type) or isinstance(array, pa.ExtensionArray)):
        for child in children(array):
            yield from _times(child)


def _is_wrong_time(times: pa.Array) -> bool:
    whole = times.view(pa.int32() if pa.types.is_time32(times.type) else pa.int64())
    bounds: dict[str, Any] = pc.min_max(whole).as_py()
    least, most = bounds["min"] or 0, bounds["max"] or 0
    return least < 0 or most >= _DAY * _PER_SECOND[times.type.unit]
