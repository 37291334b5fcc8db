"""Columns by name: plain, a field of ``extra``, a statistic of a list; advice for unknown names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import names
from siftune.curate.core.schema import CONTENT, KINDS, TURNS, Kind
from siftune.curate.rows.chat import contents, text_of

__all__ = [
    "Reader",
    "base_column",
    "field_advice",
    "groups",
    "kind_advice",
    "nearest_columns",
    "numbers",
    "raw_fields",
    "refuse_lacking_fields",
    "sortable",
    "tag_lists",
    "values",
]

Reader: TypeAlias = Callable[[pl.DataFrame, str], pl.Series]
"""Reads the column of a name from a table; refuses one that it cannot use."""

_TURN_TYPES: Final = (TURNS, pl.List(TURNS))
_STATISTICS = ("mean", "min", "max", "sum", "first", "last", "len")


def base_column(name: str) -> str:
    """The table column ``name`` reads: ``extra.topic`` reads ``extra``, ``ifd.mean`` ``ifd``."""
    return name.partition(".")[0]


def values(table: pl.DataFrame, name: str) -> pl.Series:
    """The column called ``name``: plain, a field of ``extra``, or a statistic.

    ``extra.KEY`` is a field the raw row had (as text), ``COLUMN.STAT`` one of mean, min, max, sum,
    first, last, len of a list column; of a list without values all but ``len`` are null.

    Raises:
        UsageError: no such column or statistic, or a list where one value a row is needed.
    """
    column, _, rest = name.partition(".")
    if column not in table.columns:
        fields = raw_fields(table["extra"]) if table.schema.get("extra") == pl.String else ()
        raise UsageError(
            f"no column {column!r} in these rows (in {name!r}); "
            f"{nearest_columns(column, table.columns)}{field_advice(column, fields)}"
        )
    if column == "extra" and rest:
        return (
            table.select(pl.col("extra").str.json_path_match(_path(rest))).to_series().alias(name)
        )
    if not rest:
        return table[column].alias(name)
    if rest not in _STATISTICS or not isinstance(table[column].dtype, pl.List):
        raise UsageError(
            f"{name!r}: expected a list column and one of {', '.join(_STATISTICS)}; "
            f"{column} is {table[column].dtype}"
        )
    listed = getattr(pl.col(column).list, rest)()
    if rest == "sum":  # polars has 0 for the sum of nothing
        known = pl.col(column).list.drop_nulls().list.len() > 0
        listed = pl.when(known).then(listed)
    return table.select(listed).to_series().alias(name)


def numbers(table: pl.DataFrame, name: str) -> pl.Series:
    """The column called ``name`` as numbers; unknown values are null, never NaN.

    True is 1 and false 0. A field of ``extra`` is read as a number; where its text is none, it is
    null.

    Raises:
        UsageError: no such column, or not one number a row.
    """
    column = values(table, name)
    if column.dtype == pl.Boolean:
        return column.cast(pl.UInt8)
    if column.dtype.is_float():
        return column.fill_nan(None)
    if column.dtype.is_numeric() or column.dtype == pl.Null:
        return column
    if column.dtype == pl.String and base_column(name) == "extra":
        return _read_numbers(column, name)
    raise UsageError(
        f"{name!r}: expected one number a row, the column is {_short(column.dtype)}"
        f"{_instead_of_list(column, name)}"
    )


def sortable(table: pl.DataFrame, name: str) -> pl.Series:
    """The column called ``name``, to rank rows by: numbers, texts, times.

    Raises:
        UsageError: no such column, or one of lists.
    """
    column = values(table, name)
    if column.dtype.is_nested():
        raise UsageError(
            f"{name!r} is {_short(column.dtype)}: expected one value a row to rank by"
            f"{_instead_of_list(column, name)}"
        )
    return column


def groups(table: pl.DataFrame, name: str) -> pl.Series:
    """The column called ``name``, as one text a row: rows of equal text are a group.

    ``prompt`` is the prompt of any kind of row; turns count by their contents, joined by a blank
    line.

    Raises:
        UsageError: no such column, or one with neither turns nor one value a row.
    """
    if name == "prompt":
        return text_of(table, "prompt")
    column = values(table, name)
    if column.dtype == TURNS:
        return contents(column).alias(name)
    if column.dtype.is_nested():
        raise UsageError(
            f"{name!r} is {_short(column.dtype)}: expected one value a row to group by, such "
            "as source, prompt or extra.KEY"
        )
    return column.cast(pl.String)


_VECTORS: Final = "the option embedding of k_center, mmr, semantic_dedup, ..."


def _instead_of_list(column: pl.Series, name: str) -> str:
    """Advice where a list of numbers a row was found in place of one number."""
    if isinstance(column.dtype, pl.Array):
        return f"; a column of vectors is for {_VECTORS}"
    if not isinstance(column.dtype, pl.List):
        return ""
    if not column.dtype.inner.is_numeric():
        return f"; use {name}.len for their number"
    vectors = f"; if it has vectors, they are for {_VECTORS}"
    return f"; use {name}.mean, {name}.max, ..." + vectors * column.dtype.inner.is_float()


def _short(dtype: pl.DataType) -> str:
    """A nested type without the fields of its structs."""
    return (
        f"{dtype.base_type()}({dtype.inner.base_type()})"
        if hasattr(dtype, "inner")
        else (str(dtype.base_type()))
    )


def _read_numbers(column: pl.Series, name: str) -> pl.Series:
    truth = pl.Series(["true", "false"])
    text = column.replace_strict(truth, pl.Series(["1", "0"]), default=column)
    found = text.str.strip_chars().cast(pl.Float64, strict=False).fill_nan(None)
    if column.len() > column.null_count() and found.null_count() == found.len():
        first = column.drop_nulls()[0]
        hint = f"; vectors are for {_VECTORS}" if first.startswith("[") else ""
        raise UsageError(f"{name!r}: expected numbers, found {first!r}{hint}")
    return found


def _path(key: str) -> str:
    """JSON path of a key of ``extra``; one that is no plain dotted name is quoted whole."""
    plain = key.replace(".", "").replace("_", "").isalnum()
    return f"$.{key}" if plain else "$['{}']".format(key.replace("'", r"\'"))


_SHOWN: Final = 8
_NEAREST: Final = 3
_ALIKE: Final = 0.75
_SCORERS: Final = "curate.scorers"


def nearest_columns(
    wrong: str, there: Sequence[str], fits: Callable[[str], bool] | None = None
) -> str:
    """Advice for the unknown column ``wrong``, given the existing columns ``there``.

    Columns that the reader can use (``fits``) come before others: where a number is needed, no text
    column is suggested. The columns of a scorer begin with its name, so ``lenght_words`` is
    length's.

    >>> nearest_columns("overlap", ["source", "contamination_item", "contamination_overlap"])
    'did you mean contamination_overlap?'
    >>> nearest_columns("lenght_words", ["source", "extra"])
    'the scorer length adds such columns: score the rows with it first'
    >>> nearest_columns("my", ["source", "my-score"])  # in an expression, my minus score
    'did you mean `my-score`, which has to be in backquotes?'
    """
    odd = [name for name in there if name.startswith(wrong) and re.search(r"[-+*/()]", name)]
    if odd and wrong:
        return f"did you mean `{odd[0]}`, which has to be in backquotes?"
    usable = [name for name in there if fits is None or fits(name)]
    for columns in (usable, there) if usable else (there,):
        near = _near(wrong, columns)
        if near:
            return f"did you mean {' or '.join(near)}?"
        if scorer := _scorer_of(wrong):
            return f"the scorer {scorer} adds such columns: score the rows with it first"
    shown = usable or list(there)
    what = "there are" if len(shown) == len(there) else "of those that it can use there are"
    more = len(shown) - _SHOWN
    return f"{what}: {', '.join(shown[:_SHOWN])}" + (f" and {more} more" if more > 0 else "")


def field_advice(wrong: str, fields: Collection[str]) -> str:
    """Advice for the unknown column ``wrong`` where the raw rows have a field of that name."""
    return f"; a field {wrong!r} of the raw rows is extra.{wrong}" if wrong in fields else ""


def raw_fields(extra: pl.Series) -> list[str]:
    """Names of the fields that any row has in ``extra``.

    >>> raw_fields(pl.Series(['{"score":1}', None, '{"of":[],"score":2}']))
    ['score', 'of']
    """
    return list(dict.fromkeys(key for text in extra if text for key in orjson.loads(text)))


def refuse_lacking_fields(table: pl.DataFrame, names: Iterable[str]) -> None:
    """Refuse a name such as ``extra.KEY`` of a field that no row of the table has.

    Of such a field every value would be null, and every row dropped for that.

    Raises:
        UsageError: no row has it; the text names fields that there are.
    """
    if table.is_empty() or table.schema.get("extra") != pl.String:
        return
    for name in names:
        key = name.partition(".")[2]
        if base_column(name) != "extra" or not key or values(table, name).count():
            continue
        if not any(_has_field(orjson.loads(text), key) for text in table["extra"] if text):
            there = [f"extra.{one}" for one in raw_fields(table["extra"])]
            advice = (
                nearest_columns(name, there)
                if there
                else "the raw rows have no fields beside their columns"
            )
            raise UsageError(f"no row has the field {name!r}; {advice}")


def _has_field(record: Any, key: str) -> bool:
    """Whether a record has a key, or the keys of a dotted path, if only with null."""
    if not isinstance(record, dict):
        return False
    first, _, rest = key.partition(".")
    return key in record or (bool(rest) and _has_field(record.get(first), rest))


_CALLED: Final[Mapping[str, str]] = {
    "conversation": "conversations",
    "text": "plain texts",
    "preference": "preference pairs",
    "unpaired": "unpaired answers",
    "ranked": "ranked lists",
}


def kind_advice(needs: Iterable[str], kind: Kind) -> str:
    """What is wrong where a component reads turns that one other kind of rows has; else empty.

    >>> kind_advice(["prompt", "chosen", "rejected"], "conversation")
    'it reads preference pairs (prompt, chosen, rejected), and these rows are conversations'
    """
    turns = [name for name in needs if any(CONTENT[one].get(name) in _TURN_TYPES for one in KINDS)]
    fitting = [one for one in KINDS if set(turns) <= CONTENT[one].keys()]
    if not turns or kind in fitting or len(fitting) != 1:
        return ""
    called = _CALLED[fitting[0]]
    return f"it reads {called} ({', '.join(turns)}), and these rows are {_CALLED[kind]}"


def _near(wrong: str, columns: Sequence[str]) -> list[str]:
    """Columns of the same family (``length``, ``chosen_length``), else similarly spelled ones."""
    family = [name for name in columns if f"_{wrong}_" in f"_{name}_"]
    if family:
        return family[:_NEAREST]
    return difflib.get_close_matches(wrong, columns, n=1, cutoff=_ALIKE)


def _scorer_of(wrong: str) -> str | None:
    """The scorer whose columns begin like ``wrong``, with or without the side of a pair."""
    named = wrong.removeprefix("chosen_").removeprefix("rejected_").partition(".")[0]
    first = [part for part in (named, named.partition("_")[0]) if part]
    for part in first:
        if near := difflib.get_close_matches(part, names(_SCORERS), n=1, cutoff=_ALIKE):
            return near[0]
    return None


def tag_lists(table: pl.DataFrame, name: str) -> pl.Series:
    """The column called ``name``, which has to be a list of tags a row.

    Raises:
        UsageError: it is of another type.
    """
    tags = values(table, name)
    if tags.dtype != pl.List(pl.String):
        raise UsageError(
            f"{name!r}: expected a list of tags a row, such as the scorer tags adds; the column is "
            f"{tags.dtype}"
        )
    return tags
