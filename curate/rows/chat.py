"""Reading conversations as columns: who said what last, and what came before.

The text of a turn is its content and, behind it, its tool calls (`rows.call_text`).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import polars as pl

from siftune.curate.core.schema import TURN
from siftune.curate.rows.call_text import with_calls

__all__ = ["Part", "contents", "last_turn", "part_of", "split_turns", "turn"]

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

    Turns are joined by a blank line. What follows the last assistant turn is not looked at.

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
    """The text of the last assistant turn; what is before it is not laid out anew."""
    is_answer = pl.element().struct.field("role") == "assistant"
    said = pl.element().filter(is_answer).struct.field("content")
    frame = with_calls(messages).to_frame("messages")
    return frame.select(answer=pl.col("messages").list.eval(said).list.last()).to_series()


def contents(messages: pl.Series) -> pl.Series:
    """The texts of a conversation's turns, joined by a blank line; null where none has any."""
    spoken = pl.col("messages").list.eval(pl.element().struct.field("content").drop_nulls())
    frame = with_calls(messages).to_frame("messages").select(spoken)
    joined = pl.when(pl.col("messages").list.len() > 0).then(pl.col("messages").list.join("\n\n"))
    return frame.select(messages=joined)["messages"]


def part_of(messages: pl.Series, part: Part) -> pl.Series:
    """The text of ``part`` of each conversation; null where it is not there.

    A conversation without an answer, as of a set of prompts, is all prompt.
    """
    if part == "both":
        return contents(messages)
    if part == "response":
        return _answers(messages).alias("response")
    asked = pl.select(pl.coalesce(split_turns(messages)[0], messages)).to_series()
    return contents(asked).alias("prompt")
