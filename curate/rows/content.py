"""The text of a row of any kind, for selectors that compare rows by what they say."""

from __future__ import annotations

import polars as pl

from siftune.curate.core.schema import content_columns, kind_of
from siftune.curate.rows.call_text import only_calls, with_calls
from siftune.curate.rows.chat import Part, contents, part_of

__all__ = ["calls_of", "text_of"]

_SEPARATOR = "\n\n"


def text_of(table: pl.DataFrame, part: Part) -> pl.Series:
    """The prompt, the answers, or both, of each row, as one string; null where it has none.

    A pair's answers are the chosen and the rejected one, a ranked list's are all of them. ``table``
    holds ``kind`` and the content columns.
    """
    kind = kind_of(table)
    if kind in ("conversation", "text"):
        return part_of(table["messages"], part).alias(part)
    if part == "prompt":
        return contents(table["prompt"]).alias(part)
    response = _answers(table, kind)
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
        table.with_columns(_silent(column) for column in turns).with_columns(called), part
    )


def _silent(turns: pl.Series) -> pl.Series:
    """The same column without a turn."""
    empty: pl.Series = turns.clear().extend_constant([], len(turns))
    return empty


def _answers(table: pl.DataFrame, kind: str) -> pl.Series:
    if kind == "preference":
        return _join(contents(table["chosen"]), contents(table["rejected"]))
    if kind == "unpaired":
        return contents(table["completion"])
    spoken = pl.element().list.eval(pl.element().struct.field("content").drop_nulls())
    completions = with_calls(table["completions"]).to_frame()
    answers = completions.select(pl.col("completions").list.eval(spoken))
    said = pl.col("completions").list.eval(
        pl.when(pl.element().list.len() > 0).then(pl.element().list.join(_SEPARATOR)).drop_nulls()
    )
    joined = pl.when(pl.col("completions").list.len() > 0).then(
        pl.col("completions").list.join(_SEPARATOR)
    )
    return answers.select(said).select(joined).to_series()


def _join(first: pl.Series, second: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"a": first, "b": second})
    joined = pl.concat_str("a", "b", separator=_SEPARATOR, ignore_nulls=True)
    present = pl.col("a").is_not_null() | pl.col("b").is_not_null()
    return frame.select(text=pl.when(present).then(joined)).to_series()
