"""Columns of spans for conversations: how many, of which kinds, and where in which turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import polars as pl

from siftune.curate.rows.chat import Part

__all__ = ["SPAN", "span_columns", "turn_texts"]

SPAN: Final = pl.Struct(
    {
        "turn": pl.UInt32,  # of the conversation, from 0
        "field": pl.String,  # content, or tool_calls: their JSON text
        "start": pl.UInt32,
        "end": pl.UInt32,
        "kind": pl.String,
    }
)
"""A span in a turn's text: characters from ``start`` to before ``end``."""

_FIELDS: Final = ("content", "tool_calls")


def turn_texts(messages: pl.Series, part: Part = "both") -> pl.DataFrame:
    """``row``, ``turn``, ``field`` and ``text`` of each text in ``part`` of the conversations.

    The response is the last assistant turn, the prompt is what comes before, or all if there is no
    assistant turn.
    """
    turns = (
        messages.to_frame("messages")
        .with_row_index("row")
        .explode("messages", empty_as_null=False, keep_nulls=False)
        .select("row", pl.col("messages").struct.unnest())
        .with_columns(turn=pl.int_range(pl.len(), dtype=pl.UInt32).over("row"))
    )
    answer = pl.col("turn").filter(pl.col("role") == "assistant").max().over("row")
    if part == "response":
        turns = turns.filter(pl.col("turn") == answer)
    elif part == "prompt":
        turns = turns.filter((pl.col("turn") < answer) | answer.is_null())
    return pl.concat(
        turns.select("row", "turn", field=pl.lit(field), text=field) for field in _FIELDS
    ).filter(pl.col("text").is_not_null())


def span_columns(
    name: str, messages: pl.Series, part: Part, find: Callable[[pl.Series], pl.DataFrame]
) -> pl.DataFrame:
    """``name_count``, ``name_kinds`` and ``name_spans`` of each conversation; null without a text.

    ``find`` gives the spans of texts as `pattern_spans.find_all` does.
    """
    texts = turn_texts(messages, part)
    spans = find(texts["text"]).rename({"row": "text"})
    where = texts.select("row", "turn", "field").with_row_index("text")
    listed = (
        spans.join(where, on="text", how="left", maintain_order="left")
        .select("row", "kind", span=pl.struct("turn", "field", "start", "end", "kind"))
        .sort("row", pl.col("span").struct.field("turn"), maintain_order=True)
        .group_by("row", maintain_order=True)
        .agg(count=pl.len(), kinds=pl.col("kind").unique().sort(), spans="span")
    )
    rows = pl.DataFrame({"row": pl.int_range(len(messages), dtype=pl.UInt32, eager=True)})
    known = pl.col("row").is_in(texts["row"].unique().implode())
    joined = rows.join(listed, on="row", how="left", maintain_order="left")
    return joined.select(
        pl.when(known).then(pl.col("count").fill_null(0)).cast(pl.UInt32).alias(f"{name}_count"),
        pl.when(known)
        .then(pl.col("kinds").fill_null(pl.lit([], pl.List(pl.String))))
        .alias(f"{name}_kinds"),
        pl.when(known)
        .then(pl.col("spans").fill_null(pl.lit([], pl.List(SPAN))))
        .cast(pl.List(SPAN))
        .alias(f"{name}_spans"),
    )
