"""Tool calls as text, so that what compares or scores the text of turns sees them."""

from __future__ import annotations

import json
from typing import Any, Final

import polars as pl

from siftune.curate.rows.tool_calls import arguments_key

__all__ = ["call_text", "only_calls", "with_calls"]

_SEPARATOR: Final = "\n"


def with_calls(turns: pl.Series) -> pl.Series:
    """Lists of turns (or lists of these) whose contents have the text of their calls behind them.

    Their ``tool_calls`` are then null. Without calls it is ``turns`` itself.
    """
    calls = _distinct(turns)
    if calls.is_empty():
        return turns
    called = _as_text(calls)
    spoken = pl.element().struct.field("content")
    spoken = pl.when(spoken.str.len_bytes() > 0).then(spoken)
    both = pl.concat_str(spoken, called, separator=_SEPARATOR, ignore_nulls=True)
    content = pl.when(called.is_null()).then(pl.element().struct.field("content")).otherwise(both)
    return _mapped(turns, content)


def only_calls(turns: pl.Series) -> pl.Series | None:
    """The same turns with nothing but the text of their calls; None where there is no call."""
    calls = _distinct(turns)
    return None if calls.is_empty() else _mapped(turns, _as_text(calls))


def call_text(calls: str) -> str:
    """Name and arguments of each call of a ``tool_calls`` column; ids do not count.

    >>> call_text('[{"id": "c1", "function": {"name": "add", "arguments": {"b": 2, "a": 1}}}]')
    'add {"a": 1, "b": 2}'
    """
    value = json.loads(calls)
    listed = value if type(value) is list else [value]
    return _SEPARATOR.join(map(_one, listed))


def _one(call: Any) -> str:
    function = call.get("function", call) if type(call) is dict else None
    if type(function) is not dict or "name" not in function:
        return _written(call)
    key = arguments_key(function)
    return f"{function['name']} {_written(_loaded(function[key]))}" if key else function["name"]


def _loaded(value: Any) -> Any:
    try:
        return json.loads(value) if type(value) is str else value
    except ValueError:
        return value


def _written(value: Any) -> str:
    return value if type(value) is str else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _distinct(turns: pl.Series) -> pl.Series:
    flat = turns
    while isinstance(flat.dtype, pl.List):
        flat = flat.explode(empty_as_null=False, keep_nulls=False)
    calls = flat.struct.field("tool_calls")
    if calls.null_count() == len(calls):
        return calls.clear()
    return calls.drop_nulls().unique()


def _as_text(calls: pl.Series) -> pl.Expr:
    """The text of an element's calls, null where it has none or its list of calls is empty."""
    texts = pl.Series([call_text(call) or None for call in calls.to_list()], dtype=pl.String)
    return pl.element().struct.field("tool_calls").replace_strict(calls, texts, default=None)


def _mapped(turns: pl.Series, content: pl.Expr) -> pl.Series:
    none = pl.lit(None, pl.String)
    each = pl.element().struct.with_fields(content.alias("content"), none.alias("tool_calls"))
    dtype = turns.dtype
    inner = pl.col(turns.name).list
    nested = isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.List)
    return (
        turns.to_frame()
        .select(inner.eval(pl.element().list.eval(each)) if nested else inner.eval(each))
        .to_series()
    )
