"""Rows of any kind as answers to be scored: one a row, or ranked lists; and their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from curate.core.errors import UsageError
from curate.core.schema import kind_of
from finetune.checks import Problem
from finetune.sample import SAMPLED_FROM

__all__ = ["SCORES", "check_samples", "listed", "single", "with_numbers"]

SCORES: Final = ("score", "reward")  # by these names a loss asks for what ranked rows are scored
_SIDES: Final = ("chosen", "rejected")


def with_numbers(
    table: pl.DataFrame,
    names: Sequence[str],
    given: Mapping[str, str] | None = None,
    source: Path | str = "rows",
) -> pl.DataFrame:
    """``table`` with each of ``names`` as a list of a number for each of a row's answers.

    A name is read from the column that ``given`` says, else from the one of that name (of ranked
    rows ``score`` and ``reward`` are ``scores``, of pairs ``score_chosen`` and ``score_rejected``,
    where a ranking will do 1 and 0 if they are not scored, and ``win_probability`` is that of
    chosen and what it leaves); where there is no such column, from the field of that
    name that came with the rows and has no column (``extra``). What is no number is null.

    Raises:
        UsageError: no row has one of ``names``.
    """
    given, kind = given or {}, kind_of(table)
    for name in names:
        place = given.get(name, name)
        if kind == "preference" and name not in given:
            values = _of_sides(table, name)
        else:
            place = "scores" if kind == "ranked" and place in SCORES else place
            values = _values(table, place, many=kind == "ranked")
        if values.null_count() == table.height:
            raise UsageError(f"{source}: the loss reads the column {place!r}, and no row has it")
        table = table.with_columns(values.alias(name))
    return table


def check_samples(table: pl.DataFrame, model: str) -> list[Problem]:
    """Rows for a loss on own samples that are not known to be those of ``model`` (its hash)."""
    texts = table["extra"].to_list() if "extra" in table.columns else [None] * table.height
    makers = [orjson.loads(text).get(SAMPLED_FROM) if text else None for text in texts]
    others = [key for key, maker in zip(table["id"], makers, strict=True) if maker != model]
    if not others:
        return []
    what = f"{len(others)} of {table.height} are not known to be samples of this model"
    fix = "the loss is about own samples; `siftune finetune sample` draws them"
    return [Problem("warning", "rows", what, fix, rows=True)]


def _values(table: pl.DataFrame, place: str, *, many: bool) -> pl.Series:
    """A list of numbers a row; null where there is none."""
    shape = pl.List(pl.Float64) if many else pl.Float64()
    found = table[place] if place in table.columns else _from_extra(table, place, many=many)
    try:
        found = found.cast(shape, strict=False)
    except pl.exceptions.PolarsError:  # a list where a number is expected, or the other way round
        found = pl.Series(place, [None] * table.height, dtype=shape)
    if many:
        return found
    return pl.select(pl.when(found.is_not_null()).then(pl.concat_list(found))).to_series()


def _from_extra(table: pl.DataFrame, place: str, *, many: bool) -> pl.Series:
    texts = table["extra"].to_list() if "extra" in table.columns else [None] * table.height
    found = [orjson.loads(text).get(place) if text else None for text in texts]
    read = [_numbers(value) if many else _number(value) for value in found]
    return pl.Series(place, read, dtype=pl.List(pl.Float64) if many else pl.Float64)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _numbers(value: Any) -> list[float | None] | None:
    return [_number(one) for one in value] if isinstance(value, list) else None


def _of_sides(table: pl.DataFrame, name: str) -> pl.Series:
    """Of a pair: the numbers of both sides."""
    whole = [f"{name if name not in SCORES else 'score'}_{side}" for side in _SIDES]
    told = [table[column] for column in whole if column in table.columns]
    if len(told) == len(_SIDES) and all(each.null_count() < table.height for each in told):
        return pl.select(pl.concat_list(told)).to_series()
    if name == "win_probability" and name in table.columns:
        return pl.select(pl.concat_list(table[name], 1 - table[name])).to_series()
    if name == "score":  # chosen is better, which is all that a ranking needs
        return pl.Series([[1.0, 0.0]] * table.height)
    return pl.Series([None] * table.height, dtype=pl.List(pl.Float64))


def listed(table: pl.DataFrame) -> pl.DataFrame:
    """Pairs as ranked rows of two completions; ranked rows as they are."""
    if kind_of(table) != "preference":
        return table
    both = pl.concat_list([pl.col(side).implode().over("id") for side in _SIDES])
    return table.with_columns(completions=both, kind=pl.lit("ranked"))


def single(table: pl.DataFrame, numbers: Sequence[str] = ()) -> pl.DataFrame:
    """Rows of any kind as unpaired ones; ``numbers`` are columns that `with_numbers` has made.

    Of a conversation the last turn is the completion. A pair gives two rows, ``ID#0`` (desirable)
    and ``ID#1`` (not); a ranked row one for each of its completions. Their ``label`` is null where
    the rows have none.
    """
    kind = kind_of(table)
    if kind == "unpaired":
        return table
    label = pl.lit(None, pl.Boolean)
    if kind == "conversation":
        turns = pl.col("messages")
        parts = {"prompt": turns.list.head(turns.list.len() - 1), "completion": turns.list.tail(1)}
        return table.with_columns(**parts, label=label, kind=pl.lit("unpaired"))
    if kind == "preference":
        table, label = listed(table), pl.col("at") == 0
    counted = pl.int_ranges(0, pl.col("completions").list.len()).alias("at")
    flat = table.with_columns(counted).explode("at").with_columns(pl.col("at").fill_null(0))
    of_one = [
        pl.concat_list(pl.col(name).list.get(pl.col("at"), null_on_oob=True)) for name in numbers
    ]
    return flat.with_columns(
        pl.col("completions").list.get(pl.col("at"), null_on_oob=True).alias("completion"),
        pl.concat_str("id", pl.lit("#"), "at").alias("id"),
        *of_one,
        label=label,
        kind=pl.lit("unpaired"),
    ).drop("at", "completions")
