"""Preference rows as a loss takes them (pairs, lists, single answers), with its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import orjson
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import Kind, kind_of
from siftune.finetune.data import training_rows
from siftune.finetune.data.preflight import Problem
from siftune.finetune.tools.sample import SAMPLED_FROM

__all__ = [
    "SCORES",
    "Shape",
    "check_samples",
    "listed",
    "load_rows",
    "numbers_of",
    "single",
    "with_numbers",
]

Shape = Literal["pairs", "lists", "labels", "answers"]
"""What a loss is given: pairs, ranked lists, answers with a label, or answers of any kind."""

SCORES: Final = ("score", "reward")  # names by which a loss reads the scores of ranked rows
_KINDS: Final[Mapping[Shape, tuple[Kind, ...]]] = {
    "pairs": ("preference",),
    "lists": ("ranked", "preference"),
    "labels": ("unpaired", "preference"),
    "answers": ("unpaired", "ranked", "conversation", "preference"),
}
_SIDES: Final = ("chosen", "rejected")
_OF_PAIRS: Final = ("win_probability", "weight")  # one number of a pair that gives both answers'


def load_rows(
    source: Path | str, shape: Shape, numbers: Sequence[str], given: Mapping[str, str]
) -> pl.DataFrame:
    """The rows of ``source`` in ``shape``, with a column for each of ``numbers`` (`with_numbers`).

    Raises:
        UsageError: the rows are of another kind, or none has one of the numbers.
        DataError: there is nothing to read.
    """
    table = training_rows.load(source, _KINDS[shape])
    table = with_numbers(table, numbers, given, source, per_row=shape == "pairs")
    if shape == "pairs":
        return table
    return listed(table) if shape == "lists" else single(table, numbers)


def with_numbers(
    table: pl.DataFrame,
    names: Sequence[str],
    given: Mapping[str, str] | None = None,
    source: Path | str = "rows",
    *,
    per_row: bool = False,
) -> pl.DataFrame:
    """``table`` with a column for each of ``names``: a list of one number for each answer.

    With ``per_row`` it is one number for each row, as losses on pairs read them. A name is read
    from the column that ``given`` maps it to, else from the one of that name (of ranked rows
    ``score`` and ``reward`` are ``scores``, of pairs ``score_chosen`` and ``score_rejected``, where
    a ranking will do 1 and 0 if they are not scored; ``win_probability`` is that of chosen, one
    minus it that of rejected, and a ``weight`` of the pair is that of both). Where there is no such
    column, or it is empty, the field of that name in ``extra`` is read. What is no number is null.

    Raises:
        UsageError: no row has one of ``names``.
    """
    given, kind = given or {}, kind_of(table)
    for name in names:
        place = given.get(name, name)
        if per_row:
            values = numbers_of(table, place)
        elif kind == "preference":
            values = _of_sides(table, name, place)
        else:
            place = "scores" if kind == "ranked" and place in SCORES else place
            values = _listed_numbers(table, place, many=kind == "ranked")
        if values.null_count() == table.height:
            raise UsageError(f"{source}: {_lacking(table, place, per_row)}")
        table = table.with_columns(values.alias(name))
    return table


def numbers_of(table: pl.DataFrame, name: str, *, many: bool = False) -> pl.Series:
    """A number of each row of ``table``, or with ``many`` a list of numbers; else null.

    Read from the column ``name``; where there is none or it is empty, from the field of that name
    in ``extra`` (raw fields that have no column).
    """
    if name in table.columns and table[name].null_count() < table.height:
        values = table[name]
    else:
        values = _from_extra(table, name, many=many)
    dtype = pl.List(pl.Float64) if many else pl.Float64()
    try:
        return values.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:  # a list where a number is expected, or the other way round
        return pl.Series(name, [None] * table.height, dtype=dtype)


def _extras(table: pl.DataFrame) -> list[dict[str, Any]]:
    texts = table["extra"].to_list() if "extra" in table.columns else [None] * table.height
    return [orjson.loads(text) if text else {} for text in texts]


def _from_extra(table: pl.DataFrame, name: str, *, many: bool) -> pl.Series:
    values = [extra.get(name) for extra in _extras(table)]
    read = [_numbers(value) if many else _number(value) for value in values]
    return pl.Series(name, read, dtype=pl.List(pl.Float64) if many else pl.Float64)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _numbers(value: Any) -> list[float | None] | None:
    return [_number(one) for one in value] if isinstance(value, list) else None


def _listed_numbers(table: pl.DataFrame, place: str, *, many: bool) -> pl.Series:
    """A list of numbers for each row; null where there is none."""
    values = numbers_of(table, place, many=many)
    if many:
        return values
    return pl.select(pl.when(values.is_not_null()).then(pl.concat_list(values))).to_series()


def _of_sides(table: pl.DataFrame, name: str, place: str) -> pl.Series:
    """Of each pair: the numbers of the chosen and of the rejected answer."""
    for column in dict.fromkeys((place, "score" if place in SCORES else place)):
        sides = [numbers_of(table, f"{column}_{side}") for side in _SIDES]
        if all(each.null_count() < table.height for each in sides):
            return pl.select(pl.concat_list(sides)).to_series()
    if name == "score" == place:  # chosen is better, which is all that a ranking needs
        return pl.Series([[1.0, 0.0]] * table.height)
    if name not in _OF_PAIRS:  # which of the two answers the number is of is not known
        return pl.Series([None] * table.height, dtype=pl.List(pl.Float64))
    one = numbers_of(table, place)
    both = pl.concat_list(one, 1 - one if name == "win_probability" else one)
    return pl.select(pl.when(one.is_not_null()).then(both)).to_series()


def _lacking(table: pl.DataFrame, place: str, per_row: bool) -> str:
    one = kind_of(table) == "preference" and not per_row
    if one and numbers_of(table, place).null_count() < table.height:
        sides = " and ".join(f"'{place}_{side}'" for side in _SIDES)
        return f"the loss reads {place!r} of each answer, and the pairs have one; expected {sides}"
    return f"the loss reads the column {place!r}, and no row has it"


def check_samples(table: pl.DataFrame, model: str) -> list[Problem]:
    """Rows for a loss on own samples that are not known to be samples of ``model`` (its hash)."""
    makers = [extra.get(SAMPLED_FROM) for extra in _extras(table)]
    others = [key for key, maker in zip(table["id"], makers, strict=True) if maker != model]
    if not others:
        return []
    what = f"{len(others)} of {table.height} are not known to be samples of this model"
    fix = "the loss is about own samples; `siftune finetune sample` draws them"
    return [Problem("warning", "rows", what, fix, rows=True)]


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
