"""Rows of any kind as answers to be scored: one a row, or ranked lists; and their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import orjson
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import kind_of
from siftune.finetune.data.preflight import Problem
from siftune.finetune.data.row_numbers import numbers_of
from siftune.finetune.tools.sample import SAMPLED_FROM

__all__ = ["SCORES", "check_samples", "listed", "single", "with_numbers"]

SCORES: Final = ("score", "reward")  # by these names a loss asks for what ranked rows are scored
_SIDES: Final = ("chosen", "rejected")
_OF_PAIRS: Final = ("win_probability", "weight")  # what one number of a pair tells of both answers


def with_numbers(
    table: pl.DataFrame,
    names: Sequence[str],
    given: Mapping[str, str] | None = None,
    source: Path | str = "rows",
) -> pl.DataFrame:
    """``table`` with each of ``names`` as a list of a number for each of a row's answers.

    A name is read from the column that ``given`` says, else from the one of that name (of ranked
    rows ``score`` and ``reward`` are ``scores``, of pairs ``score_chosen`` and ``score_rejected``,
    where a ranking will do 1 and 0 if they are not scored; ``win_probability`` is that of chosen
    and what it leaves, and a ``weight`` of the pair is that of both). Where there is no such
    column, or nothing in it, it is the field of that name that came with the rows
    (`data.row_numbers`). What is no number is null.

    Raises:
        UsageError: no row has one of ``names``.
    """
    given, kind = given or {}, kind_of(table)
    for name in names:
        place = given.get(name, name)
        if kind == "preference":
            values = _of_sides(table, name, place)
        else:
            place = "scores" if kind == "ranked" and place in SCORES else place
            values = _values(table, place, many=kind == "ranked")
        if values.null_count() == table.height:
            raise UsageError(f"{source}: {_lacking(table, place)}")
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
    found = numbers_of(table, place, many=many)
    if many:
        return found
    return pl.select(pl.when(found.is_not_null()).then(pl.concat_list(found))).to_series()


def _of_sides(table: pl.DataFrame, name: str, place: str) -> pl.Series:
    """Of a pair: the numbers of both sides."""
    for whole in dict.fromkeys((place, "score" if place in SCORES else place)):
        told = [numbers_of(table, f"{whole}_{side}") for side in _SIDES]
        if all(each.null_count() < table.height for each in told):
            return pl.select(pl.concat_list(told)).to_series()
    if name == "score" == place:  # chosen is better, which is all that a ranking needs
        return pl.Series([[1.0, 0.0]] * table.height)
    if name not in _OF_PAIRS:  # a number of a pair does not say which of two answers it is of
        return pl.Series([None] * table.height, dtype=pl.List(pl.Float64))
    one = numbers_of(table, place)
    both = pl.concat_list(one, 1 - one if name == "win_probability" else one)
    return pl.select(pl.when(one.is_not_null()).then(both)).to_series()


def _lacking(table: pl.DataFrame, place: str) -> str:
    if kind_of(table) == "preference" and numbers_of(table, place).null_count() < table.height:
        sides = " and ".join(f"'{place}_{side}'" for side in _SIDES)
        return f"the loss reads {place!r} of each answer, and the pairs have one; expected {sides}"
    return f"the loss reads the column {place!r}, and no row has it"


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
