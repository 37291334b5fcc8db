"""One conversation a row for scorers: sides of pairs, answers of ranked lists, every turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS, kind_of
from siftune.curate.core.types import Scorer

__all__ = ["Sides", "Turns", "score", "score_schema"]

Sides: TypeAlias = Literal["both", "chosen", "rejected"]
Turns: TypeAlias = Literal["last", "every"]
_ONE_TURN = "turns: every is for conversations and pairs; a ranked list has one turn each"
_Types: TypeAlias = Mapping[str, pl.DataType | type[pl.DataType]]


@dataclass(frozen=True)
class _View:
    """The conversations of one side of the rows, as a scorer gets them."""

    prefix: str
    messages: pl.Expr
    listed: bool = False  # `messages` is a list of conversations, and so are the scores


def score(
    scorer: Scorer, batch: pl.DataFrame, sides: Sides = "both", turns: Turns = "last"
) -> pl.DataFrame:
    """``id`` and the scores of ``batch``, for rows of any kind.

    A pair gets each column twice (``chosen_…``, ``rejected_…``), a ranked list one list a column.
    Of what a scorer names in ``gaps`` a pair also gets ``…_gap``, chosen minus rejected.

    With ``turns="every"`` a conversation is scored once for each of its assistant turns, on the
    turns up to it, and the scores are a list.
    """
    if "messages" not in scorer.needs:
        return _checked(scorer, batch, scorer.adds).insert_column(0, batch["id"])
    scores = [_score_view(scorer, batch, view, turns) for view in _views(batch, sides)]
    table = pl.concat([batch.select("id"), *scores], how="horizontal")
    gaps = _gaps(scorer, sides, turns) if kind_of(batch) == "preference" else ()
    return table.with_columns(
        (pl.col(f"chosen_{name}") - pl.col(f"rejected_{name}")).alias(f"{name}_gap")
        for name in gaps
    )


def score_schema(
    scorer: Scorer, kind: str, sides: Sides = "both", turns: Turns = "last"
) -> dict[str, pl.DataType | type[pl.DataType]]:
    """Names and types of the columns that `score` adds to rows of ``kind``.

    Raises:
        UsageError: rows of this kind cannot be scored at every turn.
    """
    if "messages" not in scorer.needs:
        return dict(scorer.adds)
    if kind == "ranked" and turns == "every":
        raise UsageError(_ONE_TURN)
    listed = kind == "ranked" or turns == "every"
    types = {name: pl.List(kind) if listed else kind for name, kind in scorer.adds.items()}
    if kind != "preference":
        return types
    found = {
        f"{side}_{name}": each for side in _chosen_sides(sides) for name, each in types.items()
    }
    return found | {f"{name}_gap": types[name] for name in _gaps(scorer, sides, turns)}


def _gaps(scorer: Scorer, sides: Sides, turns: Turns) -> tuple[str, ...]:
    """Columns of which a pair has the difference of its sides."""
    return getattr(scorer, "gaps", ()) if sides == "both" and turns == "last" else ()


def _chosen_sides(sides: Sides) -> list[str]:
    return ["chosen", "rejected"] if sides == "both" else [sides]


def _views(batch: pl.DataFrame, sides: Sides) -> list[_View]:
    kind = kind_of(batch)
    if kind in ("conversation", "text"):
        return [_View("", pl.col("messages"))]
    prompt = pl.col("prompt")
    if kind == "preference":
        return [_View(f"{side}_", prompt.list.concat(side)) for side in _chosen_sides(sides)]
    if kind == "unpaired":
        return [_View("", prompt.list.concat("completion"))]
    return [_View("", pl.col("completions"), listed=True)]


def _score_view(scorer: Scorer, batch: pl.DataFrame, view: _View, turns: Turns) -> pl.DataFrame:
    if view.listed and turns == "every":
        raise UsageError(_ONE_TURN)
    columns = [pl.col(name) for name in scorer.needs if name != "messages"]
    rows = batch.select(*columns, *_prompt(view), messages=view.messages).with_row_index("_row")
    if view.listed:
        rows = rows.explode("messages", empty_as_null=False, keep_nulls=False).with_columns(
            messages=pl.col("_prompt").list.concat("messages")
        )
    elif turns == "every":
        rows = _each_turn(rows)
    else:
        return _checked(scorer, rows.drop("_row"), scorer.adds).rename(
            lambda name: view.prefix + name
        )
    scores = _checked(scorer, rows.drop("_row"), scorer.adds)
    return _regroup(rows["_row"], scores, batch.height).rename(lambda name: view.prefix + name)


def _prompt(view: _View) -> list[pl.Expr]:
    return [pl.col("prompt").alias("_prompt")] if view.listed else []


def _each_turn(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each assistant turn, with the conversation up to and including it."""
    position = pl.int_ranges(1, pl.col("messages").list.len() + 1)
    exploded = rows.with_columns(_end=position).explode("_end", empty_as_null=False)
    upto = exploded.with_columns(messages=pl.col("messages").list.head(pl.col("_end")))
    ends = pl.col("messages").list.last().struct.field("role") == "assistant"
    return upto.filter(ends).drop("_end").with_columns(pl.col("messages").cast(TURNS))


def _regroup(row: pl.Series, scores: pl.DataFrame, height: int) -> pl.DataFrame:
    """Scores gathered into one list a row; a row without a turn gets an empty list."""
    lists = scores.insert_column(0, row).group_by("_row", maintain_order=True).agg(pl.all())
    every = pl.DataFrame({"_row": pl.int_range(height, eager=True)}).cast({"_row": row.dtype})
    joined = every.join(lists, on="_row", how="left", maintain_order="left").drop("_row")
    return joined.with_columns(pl.all().fill_null([]))


def _checked(scorer: Scorer, batch: pl.DataFrame, adds: _Types) -> pl.DataFrame:
    """The scorer's columns, checked against its height and ``adds``."""
    scores = scorer(batch)
    if scores.height != batch.height or scores.columns != list(adds):
        raise TypeError(
            f"{type(scorer).__name__} was given {batch.height} rows and declares {list(adds)}; "
            f"it returned {scores.height} rows of {scores.columns}"
        )
    return scores.cast(pl.Schema(adds))
