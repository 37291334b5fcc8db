"""Frames of users as tables of ours: for components that are called by themselves, and for sources.

A component asks for ``id``, ``digest``, ``kind`` and columns of turns. Where a frame has none they
are made, by the readers of `siftune curate ingest`; a column that they cannot make is named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import polars as pl
from polars.exceptions import PolarsError

from siftune.curate.core.errors import BadRow, DataError, UsageError
from siftune.curate.core.schema import CONTENT, KINDS, TURNS, content_columns, kind_of
from siftune.curate.core.types import Scorer, Selector
from siftune.curate.files.json_text import dump, plain_text
from siftune.curate.files.outputs import check_name
from siftune.curate.files.source_spec import in_python
from siftune.curate.rows.columns import (
    field_advice,
    kind_advice,
    nearest_columns,
    raw_fields,
    refuse_lacking_fields,
)
from siftune.curate.rows.decisions import DECISIONS

__all__ = ["decide_on", "frame_of", "score_frame", "write_source"]

_TURNS: Final = frozenset(name for kind in KINDS for name in CONTENT[kind]) - {"label"}
_MADE: Final = frozenset({*_TURNS, "content", "kind", "source", "row", "extra"})
"""Columns that the readers can make."""
_UNREADABLE: Final = (pl.Object, pl.Int128, pl.UInt128)
_NAME: Final = "frame"


def score_frame(
    own: Callable[[Any, pl.DataFrame], pl.DataFrame], scorer: Scorer, batch: Any
) -> pl.DataFrame:
    """Call a scorer with any frame; the columns it adds, one row for each given.

    Of pairs that are the columns of both sides, of ranked lists a list each, as in a run.

    Raises:
        UsageError: the frame lacks a column that nothing can make.
        DataError: a row of it cannot be read.
    """
    if getattr(scorer, "takes_frame", False):
        return own(scorer, frame_of(batch))
    if _is_table(batch) and _has(batch, scorer.needs):
        return own(scorer, batch)
    from siftune.curate.rows.conversation_views import score

    frame = frame_of(batch)
    if frame.is_empty():
        return pl.DataFrame(schema=dict(scorer.adds))
    table = _completed(frame, scorer.needs, scorer)
    if "messages" in table.columns:
        return own(scorer, table)
    return score(scorer, table).drop("id")


def decide_on(
    own: Callable[[Any, pl.DataFrame], pl.DataFrame], selector: Selector, table: Any
) -> pl.DataFrame:
    """Call a selector with any frame: ``keep``, ``reason`` and ``detail`` of each row.

    Raises:
        UsageError: the frame lacks a column that nothing can make.
        DataError: a row of it cannot be read.
    """
    if getattr(selector, "takes_frame", False):
        return own(selector, frame_of(table))
    needs = ("id", "digest", *("content" if need == "*" else need for need in selector.needs))
    whole = _is_table(table) and _has(table, needs)
    frame = table if whole else frame_of(table)
    if not whole and frame.is_empty():
        return pl.DataFrame(schema=DECISIONS)
    rows = _with_text_ids(frame if whole else _completed(frame, needs, selector))
    refuse_lacking_fields(rows, [name for name, _ in getattr(selector, "reads", ())])
    return own(selector, rows)


def _with_text_ids(table: pl.DataFrame) -> pl.DataFrame:
    """The table with ids and digests as text, which those of a user's frame need not be."""
    schema = table.schema
    other = [name for name in ("id", "digest") if schema[name] != pl.String]
    plain = [name for name in other if not schema[name].is_nested()]
    return table.with_columns(pl.col(plain).cast(pl.String)) if plain else table


def _is_table(value: Any) -> bool:
    return isinstance(value, pl.DataFrame)


def _has(table: pl.DataFrame, needs: Sequence[str]) -> bool:
    """Whether a table has what a component asks for, turns as `TURNS`."""
    schema, wanted = table.schema, set(needs)
    if "content" in wanted:
        kinds = table["kind"].unique().to_list() if "kind" in schema else []
        if len(kinds) != 1 or kinds[0] not in KINDS:
            return table.is_empty() and "kind" in schema
        wanted = (wanted - {"content"}) | {*content_columns(kinds[0])}
    turns = wanted & _TURNS
    return wanted <= schema.keys() and all(_is_turns(schema[name]) for name in turns)


def _is_turns(dtype: pl.DataType) -> bool:
    return dtype in (TURNS, pl.List(TURNS))


def _completed(frame: pl.DataFrame, needs: Sequence[str], component: Any) -> pl.DataFrame:
    """The frame with the columns that ``component`` needs.

    A column of the frame itself comes before one that is made; turns are always those of the
    readers.
    """
    name = type(component).__name__
    lacking = [need for need in needs if need not in {*frame.columns, *_MADE, "id", "digest"}]
    if lacking:
        fields = raw_fields(frame["extra"]) if {"kind", "extra"} <= {*frame.columns} else ()
        advice = f"{nearest_columns(lacking[0], frame.columns)}{field_advice(lacking[0], fields)}"
        raise UsageError(f"{name}: no column {lacking[0]!r} in this frame; {advice}")
    made = [need for need in needs if need in _TURNS or need not in frame.columns]
    if not made:
        return frame
    if _MADE.isdisjoint(made) and not _is_known(frame):
        return _with_ids(frame)
    aside = [one for one in needs if one in frame.columns and one not in _TURNS]
    table = _read(frame.drop(aside), name)
    turns = [one for one in made if one in _TURNS and one != "messages"]
    absent = next((one for one in turns if one not in table.columns), None)
    if absent is not None:
        kind = kind_of(table)
        advice = kind_advice(turns, kind) or f"no column {absent!r} in this frame of {kind} rows"
        raise UsageError(f"{name}: {advice}")
    beside = [one for one in frame.columns if one not in table.columns or one in aside]
    return table.with_columns(frame.select(beside))


def _read(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows of a frame, one for each.

    Raises:
        DataError: its layout is unknown, or a row of it cannot be read.
    """
    from siftune.curate.io.ingest import read_rows

    with TemporaryDirectory(prefix="siftune-") as folder:
        path = write_source(frame, Path(folder), _NAME)
        try:
            with in_python():
                table, bad = read_rows(path)
        except DataError as error:
            told = str(error).replace(f"{path}: ", "")
            raise DataError(
                f"{name}: no turns ('messages', 'prompt', ...) can be made of this frame: {told}"
                f"{_all_null(frame)}; format= and map= are options of siftune.read(frame)"
            ) from None
    if bad:
        raise DataError(
            f"{name}: row {bad[0]['row']} of this frame cannot be read "
            f"({bad[0]['reason']}: {bad[0]['detail']}); siftune.read(frame) sets such rows aside"
        )
    if table.height != frame.height:
        raise DataError(
            f"{name}: {frame.height:,} records of this frame give {table.height:,} rows; call "
            "siftune.read(frame) for a table of them"
        )
    return table


def _all_null(frame: pl.DataFrame) -> str:
    """Which columns of a frame hold nothing, if any do."""
    names = [repr(one.name) for one in frame if one.null_count() == len(one)]
    return f"; null in every row: {', '.join(names)}" if names else ""


def _is_known(frame: pl.DataFrame) -> bool:
    """Whether the first rows of a frame have a known layout."""
    from siftune.curate.io.detect import SAMPLE, detect
    from siftune.curate.io.table_values import values

    first = [row for batch in frame.head(SAMPLE).to_arrow().to_batches() for row in values(batch)]
    try:
        detect(_NAME, [row for row in first if not isinstance(row, BadRow)])
    except (DataError, IndexError):  # the latter: there is no row
        return False
    return True


def _with_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with an id for each row, and a digest of all that the row holds."""
    made = []
    if "id" not in frame.columns:
        ids = pl.int_range(1, frame.height + 1, eager=True).cast(pl.String)
        made.append((f"{_NAME}:" + ids).alias("id"))
    if "digest" not in frame.columns:
        texts = frame.select(pl.struct(pl.all()).struct.json_encode()).to_series()
        digests = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]
        made.append(pl.Series("digest", digests, dtype=pl.String))
    return frame.with_columns(made)


def frame_of(data: Any) -> pl.DataFrame:
    """A frame of polars, pandas, pyarrow or `datasets`, or a list of dicts, as one of polars.

    Raises:
        UsageError: it is none of them.
    """
    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    if isinstance(data, list) and all(isinstance(record, dict) for record in data):
        return pl.from_dicts(data, infer_schema_length=None) if data else pl.DataFrame()
    if hasattr(data, "with_format") and hasattr(data, "features"):  # of `datasets`
        if not hasattr(data, "__len__"):  # streamed
            return frame_of(list(data))
        data = data.with_format("arrow")[:]
    if hasattr(data, "__arrow_c_stream__"):
        return _of_arrow(data)
    if isinstance(kept := getattr(data, "kept", None), pl.DataFrame):  # `siftune.Rows`
        return kept
    raise UsageError(
        "expected a frame (of polars, pandas, pyarrow or datasets) or a list of dicts, got "
        f"{type(data).__name__}{_instead(data)}"
    )


def _instead(data: Any) -> str:
    """What to give in place of what is no frame."""
    if isinstance(data, str | PathLike):
        return "; read a file first: siftune.read(...).kept"
    if isinstance(data, dict):
        if data and all(hasattr(one, "features") for one in data.values()):
            return f"; take one of its parts, such as dataset[{next(iter(data))!r}]"
        if data and all(map(_is_column, data.values())):
            return "; make a frame of its columns: polars.DataFrame(...)"
        return "; put the one row into a list: [...]"
    return "; make a list of it: list(...)" if hasattr(data, "__iter__") else ""


def _is_column(value: Any) -> bool:
    """Whether a value is a column, not a text or the turns of one row."""
    if isinstance(value, str | dict) or not hasattr(value, "__iter__"):
        return False
    return not any(isinstance(one, dict) for one in value)


def _of_arrow(data: Any) -> pl.DataFrame:
    try:
        return pl.DataFrame(data)
    except (ValueError, TypeError, PolarsError) as error:  # such as two columns of one name
        raise UsageError(f"this frame cannot be read: {str(error).splitlines()[0]}") from error


def write_source(data: Any, folder: Path, name: str) -> Path:
    """Write a frame, or a list of records, into ``folder`` as a file that the readers take.

    A table of ours keeps its ids, digests and scores; ``name`` comes into the ids of others.

    Raises:
        UsageError: a column of the frame, or a value of a record, is of a type that no file has, or
            ``name`` is no plain name of a file.
    """
    if not isinstance(name, str):
        raise UsageError(f"name: expected a text, got {type(name).__name__}")
    check_name(name)
    if isinstance(data, list):
        path = folder / f"{name}.jsonl"
        text = "".join(f"{_line(at, record)}\n" for at, record in enumerate(data, 1))
        path.write_text(text, encoding="utf-8", errors="surrogatepass")  # such lines are set aside
        return path
    frame = frame_of(data)
    odd = next((one for one in frame if one.dtype in _UNREADABLE), None)
    if odd is not None:
        raise UsageError(
            f"the column {odd.name!r} holds {odd.dtype} values, which no file format of rows has: "
            "cast it, or leave it out"
        )
    path = folder / f"{name}.parquet"
    frame.write_parquet(path, compression="lz4")
    return path


def _line(number: int, record: Any) -> str:
    """A record as JSON; arrays and tensors are lists there.

    Raises:
        UsageError: a value is of a type that JSON has not.
    """
    try:
        return dump(record, _as_plain)
    except TypeError as error:
        named = record.items() if isinstance(record, dict) else ()
        key = next((f"{key!r} of " for key, value in named if not _is_plain(value)), "")
        raise UsageError(
            f"{key}record {number} holds {error}, which no file format of rows has: make it "
            "numbers, texts, lists or dicts, or leave it out"
        ) from None


def _is_plain(value: Any) -> bool:
    try:
        dump(value, _as_plain)
    except TypeError:
        return False
    return True


def _as_plain(value: Any) -> Any:
    """The lists and numbers of an array, tensor or series; text of the types that files have, too.

    Raises:
        TypeError: it is none of them.
    """
    if isinstance(value, date | time | timedelta | Decimal | bytes):
        return plain_text(value)
    if type(value).__name__ == "NAType":  # of pandas
        return None
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    for name in ("tolist", "to_list"):
        if callable(listed := getattr(value, name, None)):
            return listed()
    raise TypeError(f"a value of type {type(value).__name__}")
