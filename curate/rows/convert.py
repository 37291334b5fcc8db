"""Conversion of our rows to Arrow tables with fixed types, and back to plain Python values."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any, Final

import orjson
import polars as pl
import pyarrow as pa

from siftune.curate.core.schema import CONTENT, SOME, TURN, TURNS, Kind, schema_of
from siftune.curate.core.types import Row
from siftune.curate.files.json_text import dump

__all__ = [
    "arrow_schema",
    "content_digest",
    "fill_margin",
    "finish",
    "framed",
    "rows_of",
    "table_of",
]

_LISTED: Final = pl.List(TURNS)
_FIELDS: Final = itemgetter(*[field.name for field in TURN.fields])
_COMPAT: Final = pl.CompatLevel.oldest()
_NULL: Final = b"\xff\xff\xff\xff"


def content_digest(kind: Kind, row: Row) -> str:
    """128-bit hex digest (BLAKE2b) of the content columns; the same on any machine and version.

    It is taken over the bytes that `native.jsonl.content_bytes` defines, which makes them for whole
    columns. Equal content, equal digest; source, extra, scores and ranks do not count.
    """
    return _digest(_content(kind, row))


def finish(made: Row, kind: Kind, source: str, row: int, name: str) -> int:
    """Add the base columns to a row that a format made; ``name`` is what follows ``source:``.

    Returns:
        The number of bytes of its content, as the digest is taken over them, and of ``extra``.
    """
    content, extra = _content(kind, made), made.get("extra")
    made["id"] = f"{source}:{name}"
    made["source"] = source
    made["row"] = row
    made["kind"] = kind
    made["digest"] = _digest(content)
    made["extra"] = kept = dump(extra) if extra else None
    return len(content) + len(kept or "")


def fill_margin(pair: Row) -> None:
    """Add the difference of both scores as the margin of a pair without one, unless infinite."""
    chosen, rejected = pair.get("score_chosen"), pair.get("score_rejected")
    if pair.get("margin") is None and chosen is not None and rejected is not None:
        margin = chosen - rejected
        pair["margin"] = margin if math.isfinite(margin) else None


def _content(kind: Kind, row: Row) -> bytes:
    return framed(kind) + b"".join(map(framed, map(row.__getitem__, CONTENT[kind])))


def framed(value: Any) -> bytes:
    """Bytes of a text, a truth value, a turn, null, or a list of these, each with its length."""
    if type(value) is str:
        text = value.encode()
        return len(text).to_bytes(4, "little") + text
    if value is None:
        return _NULL
    if type(value) is bool:
        return b"\1" if value else b"\0"
    if type(value) is list:
        return len(value).to_bytes(4, "little") + b"".join(map(framed, value))
    return b"".join(map(framed, _FIELDS(value)))


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def table_of(kind: Kind, rows: Sequence[Row]) -> pa.Table:
    """Finished rows as an Arrow table of `arrow_schema`; facts that no format gave are null.

    It has the columns of `SOME` that one of the rows has.
    """
    some = [name for name in SOME.get(kind, ()) if any(name in row for row in rows)]
    dtypes = schema_of(kind) | {name: SOME[kind][name] for name in some}
    columns = [_column(dtype, [row.get(name) for row in rows]) for name, dtype in dtypes.items()]
    return pa.Table.from_arrays(columns, schema=arrow_schema(kind, *some))


@cache
def arrow_schema(kind: Kind, *some: str) -> pa.Schema:
    """`schema_of` and ``some`` of `SOME`, with Arrow types that every reader supports."""
    dtypes = schema_of(kind) | {name: SOME[kind][name] for name in some}
    return pl.DataFrame(schema=dtypes).to_arrow(compat_level=_COMPAT).schema


def rows_of(table: pl.DataFrame) -> Iterator[Row]:
    """The rows of a table as values that a format can write: ``extra`` is an object."""
    for row in table.iter_rows(named=True):
        extra = row.get("extra")
        yield row | {"extra": orjson.loads(extra) if extra else {}}


def _column(dtype: pl.DataType, values: list[Any]) -> pa.Array:
    if dtype == TURNS:
        return _turns(values)
    if dtype == _LISTED:
        return _lists(values, _turns(list(chain.from_iterable(values))))
    return _array(values, dtype)


def _turns(conversations: list[list[Row]]) -> pa.Array:
    turns = list(chain.from_iterable(conversations))
    fields = [field.name for field in TURN.fields]
    arrays = [_array(list(map(itemgetter(field), turns)), pl.String()) for field in fields]
    return _lists(conversations, pa.StructArray.from_arrays(arrays, fields))


def _lists(parents: list[list[Any]], items: pa.Array) -> pa.Array:
    offsets = _array([0, *accumulate(map(len, parents))], pl.Int64())
    return pa.LargeListArray.from_arrays(offsets, items)


def _array(values: list[Any], dtype: pl.DataType) -> pa.Array:
    return pl.Series(values, dtype=dtype).to_arrow(
        compat_level=_COMPAT
    )  # `pa.array` would import pandas, 0.2 s
