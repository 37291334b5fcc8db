"""Containers of exports: JSON lines, Parquet, saved datasets; each with one schema for all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import no_dataset_bars
from siftune.curate.core.types import Row
from siftune.curate.files.json_text import dump
from siftune.curate.rows.tool_calls import calls_as_text

__all__ = ["CONTAINERS", "column_type", "data_file", "fitted", "same_keys", "write_rows"]

_ROWS: Final = 10_000  # of a row group
_INT64: Final = range(-(2**63), 2**63)


def data_file(container: str, split: str) -> str:
    """The data file of an export, in its folder, or the folder itself.

    >>> data_file("jsonl", "train"), data_file("datasets", "train")
    ('train.jsonl', '.')
    """
    return "." if container == "datasets" else f"{split}.{container}"


def write_rows(rows: Sequence[Row], container: str, path: Path) -> None:
    """Write the rows of an export to its data file ``path``."""
    CONTAINERS[container](rows, path)


def same_keys(rows: Sequence[Row]) -> list[Row]:
    """The rows with the keys of all of them, in the order first seen; what is missing is null."""
    keys = dict.fromkeys(chain.from_iterable(rows))
    return [{key: row.get(key) for key in keys} for row in rows]


def column_type(values: Sequence[Any]) -> pa.DataType:
    """The one Arrow type that holds all JSON ``values``: text where they are of several types.

    >>> column_type([1, None, 2.5]), column_type([[1], ["a"]])
    (DataType(double), ListType(list<item: string>))
    """
    there = [value for value in values if value is not None]
    types = {type(value) for value in there}
    if types == {bool}:
        return pa.bool_()
    if types and types <= {int, float}:
        return _number_type(there)
    if types == {list}:
        return pa.list_(column_type(list(chain.from_iterable(there))))
    if types == {dict} and any(there):
        keys = dict.fromkeys(chain.from_iterable(there))
        return pa.struct([(key, column_type([v.get(key) for v in there])) for key in keys])
    return pa.string()


def _number_type(numbers: Sequence[int | float]) -> pa.DataType:
    whole = [number for number in numbers if type(number) is int]
    if not all(number in _INT64 for number in whole):
        return pa.string()
    return pa.int64() if len(whole) == len(numbers) else pa.float64()


def fitted(value: Any, dtype: pa.DataType) -> Any:
    """``value`` as it is in a column of `column_type`: JSON text where types differ.

    >>> [fitted(value, pa.string()) for value in ("a", 3, {"b": 1})]
    ['a', '3', '{"b":1}']
    """
    if value is None:
        return None
    if pa.types.is_string(dtype):
        return value if isinstance(value, str) else dump(value)
    if pa.types.is_list(dtype):
        return [fitted(item, dtype.value_type) for item in value]
    if pa.types.is_struct(dtype):
        return {field.name: fitted(value.get(field.name), field.type) for field in dtype}
    return float(value) if pa.types.is_floating(dtype) else value


def _tables(rows: Sequence[Row]) -> Iterator[pa.Table]:
    """The rows as tables of one schema; calls and tools are JSON text (`calls_as_text`)."""
    plain = [calls_as_text(row) for row in rows]
    names = list(plain[0]) if plain else []
    types = {name: column_type([row[name] for row in plain]) for name in names}
    schema = pa.schema(list(types.items()))
    for start in range(0, max(len(plain), 1), _ROWS):
        part = plain[start : start + _ROWS]
        columns = [
            pa.array([fitted(row[name], kind) for row in part], kind)
            for name, kind in types.items()
        ]
        yield pa.Table.from_arrays(columns, schema=schema)


def _jsonl(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(dump(row) + "\n")


def _parquet(rows: Sequence[Row], path: Path) -> None:
    tables = list(_tables(rows))
    with pq.ParquetWriter(path, tables[0].schema, compression="zstd") as file:
        for table in tables:
            file.write_table(table)


def _datasets(rows: Sequence[Row], folder: Path) -> None:
    try:
        from datasets import Dataset
    except ImportError as error:
        raise UsageError(
            f"--to datasets: the package datasets does not import ({error}): install it, or use "
            "--to parquet"
        ) from None
    with no_dataset_bars():
        Dataset(pa.concat_tables(_tables(rows))).save_to_disk(str(folder))


CONTAINERS: Final[Mapping[str, Callable[[Sequence[Row], Path], None]]] = {
    "jsonl": _jsonl,
    "parquet": _parquet,
    "datasets": _datasets,
}
