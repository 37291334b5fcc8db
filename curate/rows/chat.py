"""Text of rows: prompt, answer or both of a conversation, a pair or a ranked list.

The text of a turn is its content, followed by its tool calls (`call_text`).
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal, TypeAlias

import polars as pl

from siftune.curate.core.schema import TURN, content_columns, kind_of
from siftune.curate.rows.tool_calls import arguments_key

__all__ = [
    "Part",
    "call_text",
    "calls_of",
    "contents",
    "last_turn",
    "only_calls",
    "part_of",
    "split_turns",
    "text_of",
    "turn",
    "with_calls",
]

Part: TypeAlias = Literal["prompt", "response", "both"]
"""Which text of a conversation: all before the last assistant turn, that turn, or both."""


def turn(role: str, content: str | None, **other: str | None) -> dict[str, str | None]:
    """One turn as a Python value with all fields of `TURN`.

    >>> turn("user", "Hi")["role"]
    'user'
    """
    empty: dict[str, str | None] = dict.fromkeys(field.name for field in TURN.fields)
    return empty | {"role": role, "content": content} | other


def last_turn(messages: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Text before the last assistant turn, and that turn's text; null where there is none.

    Turns are joined by a blank line. What follows the last assistant turn is left out.

    >>> from siftune.curate.core.schema import TURNS
    >>> chat = pl.Series([[turn("user", "2+2?"), turn("assistant", "4")]], dtype=TURNS)
    >>> [part.to_list() for part in last_turn(chat)]
    [['2+2?'], ['4']]
    """
    before, answer = split_turns(messages)
    return contents(before).alias("prompt"), answer.alias("response")


def split_turns(messages: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The turns before the last assistant turn, and that turn's text; null where none is."""
    is_answer = pl.element().struct.field("role") == "assistant"
    frame = messages.to_frame("messages").with_columns(
        from_end=pl.col("messages").list.eval(is_answer).list.reverse().list.arg_max(),
        answered=pl.col("messages").list.eval(is_answer).list.any(),
        turns=pl.col("messages").list.len().cast(pl.Int64),
    )
    at = pl.when("answered").then(pl.col("turns") - 1 - pl.col("from_end"))
    before = pl.when("answered").then(pl.col("messages").list.head(at.fill_null(0)))
    return frame.select(before=before).to_series(), _answers(messages)


def _answers(messages: pl.Series) -> pl.Series:
    """The text of the last assistant turn."""
    is_answer = pl.element().struct.field("role") == "assistant"
    content = pl.element().filter(is_answer).struct.field("content")
    frame = with_calls(messages).to_frame("messages")
    return frame.select(answer=pl.col("messages").list.eval(content).list.last()).to_series()


def contents(messages: pl.Series) -> pl.Series:
    """The texts of a conversation's turns, joined by a blank line; null where no turn has any."""
    spoken = pl.col("messages").list.eval(pl.element().struct.field("content").drop_nulls())
    frame = with_calls(messages).to_frame("messages").select(spoken)
    joined = pl.when(pl.col("messages").list.len() > 0).then(pl.col("messages").list.join("\n\n"))
    return frame.select(messages=joined)["messages"]


def part_of(messages: pl.Series, part: Part) -> pl.Series:
    """The text of ``part`` of each conversation; null where it is missing.

    A conversation without an answer, as of a set of prompts, is all prompt.
    """
    if part == "both":
        return contents(messages)
    if part == "response":
        return _answers(messages).alias("response")
    asked = pl.select(pl.coalesce(split_turns(messages)[0], messages)).to_series()
    return contents(asked).alias("prompt")


_SEPARATOR = "\n\n"


def text_of(table: pl.DataFrame, part: Part) -> pl.Series:
    """The prompt, the answers, or both, of each row, as one string; null where it has none.

    A pair's answers are the chosen and the rejected one, a ranked list's are all of them. ``table``
    has ``kind`` and the content columns.
    """
    kind = kind_of(table)
    if kind in ("conversation", "text"):
        return part_of(table["messages"], part).alias(part)
    if part == "prompt":
        return contents(table["prompt"]).alias(part)
    response = _all_answers(table, kind)
    whole = response if part == "response" else _join(contents(table["prompt"]), response)
    return whole.alias(part)


def calls_of(table: pl.DataFrame, part: Part) -> pl.Series | None:
    """The text of the tool calls in the prompt, the answers, or both, of each row.

    Null where a row has none; None where no row has one.
    """
    turns = [table[name] for name in content_columns(kind_of(table)) if name != "label"]
    called = [column for column in map(only_calls, turns) if column is not None]
    if not called:
        return None
    return text_of(
        table.with_columns(_without_turns(column) for column in turns).with_columns(called), part
    )


def _without_turns(turns: pl.Series) -> pl.Series:
    """The same column with empty lists of turns."""
    empty: pl.Series = turns.clear().extend_constant([], len(turns))
    return empty


def _all_answers(table: pl.DataFrame, kind: str) -> pl.Series:
    if kind == "preference":
        return _join(contents(table["chosen"]), contents(table["rejected"]))
    if kind == "unpaired":
        return contents(table["completion"])
    spoken = pl.element().list.eval(pl.element().struct.field("content").drop_nulls())
    completions = with_calls(table["completions"]).to_frame()
    answers = completions.select(pl.col("completions").list.eval(spoken))
    content = pl.col("completions").list.eval(
        pl.when(pl.element().list.len() > 0).then(pl.element().list.join(_SEPARATOR)).drop_nulls()
    )
    joined = pl.when(pl.col("completions").list.len() > 0).then(
        pl.col("completions").list.join(_SEPARATOR)
    )
    return answers.select(content).select(joined).to_series()


def _join(first: pl.Series, second: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"a": first, "b": second})
    joined = pl.concat_str("a", "b", separator=_SEPARATOR, ignore_nulls=True)
    present = pl.col("a").is_not_null() | pl.col("b").is_not_null()
    return frame.select(text=pl.when(present).then(joined)).to_series()


_CALL_SEPARATOR: Final = "\n"


def with_calls(turns: pl.Series) -> pl.Series:
    """Lists of turns (or lists of these) with the text of their tool calls after the contents.

    Their ``tool_calls`` are then null. Without calls it is ``turns`` itself.
    """
    calls = _distinct(turns)
    if calls.is_empty():
        return turns
    called = _as_text(calls)
    spoken = pl.element().struct.field("content")
    spoken = pl.when(spoken.str.len_bytes() > 0).then(spoken)
    both = pl.concat_str(spoken, called, separator=_CALL_SEPARATOR, ignore_nulls=True)
    content = pl.when(called.is_null()).then(pl.element().struct.field("content")).otherwise(both)
    return _mapped(turns, content)


def only_calls(turns: pl.Series) -> pl.Series | None:
    """The same turns with the text of their calls alone; None where there is no call."""
    calls = _distinct(turns)
    return None if calls.is_empty() else _mapped(turns, _as_text(calls))


def call_text(calls: str) -> str:
    """Name and arguments of each call of a ``tool_calls`` column, without ids.

    >>> call_text('[{"id": "c1", "function": {"name": "add", "arguments": {"b": 2, "a": 1}}}]')
    'add {"a": 1, "b": 2}'
    """
    value = json.loads(calls)
    listed = value if type(value) is list else [value]
    return _CALL_SEPARATOR.join(map(_one, listed))


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
