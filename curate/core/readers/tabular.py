"""Records of tables: parquet, CSV, and the Arrow files of a saved `datasets` folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.errors import BadRow, DataError
from curate.core.readers.binary import shown
from curate.core.readers.calls import CALL_KEYS, without_nulls
from curate.core.readers.jsonlines import MAX_LINE
from curate.core.types import Row

__all__ = ["Record", "arrow", "csv_rows", "parquet", "parquet_batches", "parquet_columns"]

_BATCH: Final = 1024
_SAMPLED: Final = 8  # rows that are looked at to choose the rows of a batch
_BATCH_BYTES: Final = 64 << 20
_FREE: Final = 256 << 20  # bytes of values that a small file may hold
_MAX_RATIO: Final = 100  # how many times its size a file may grow beyond that
_UNREADABLE: Final = (pa.ArrowException, OSError, UnicodeDecodeError)  # the last: of a name
Record = tuple[int, Row | BadRow]


def parquet_batches(path: Path, rows: int = _BATCH) -> Iterator[pa.RecordBatch]:
    """The batches of a parquet file; the checksum of each page that has one is verified.

    Raises:
        DataError: it is not parquet, cut off, or a page is damaged.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield from _bounded(file, path, rows)
    except _UNREADABLE as error:
        raise _damaged(path, "parquet", error) from None


def _bounded(file: pq.ParquetFile, path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of at most ``rows`` rows, fewer where rows are long; refused where they expand."""
    most = max(_FREE, _MAX_RATIO * path.stat().st_size)
    groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
    _refuse_beyond(most, sum(group.total_byte_size for group in groups), path)
    given = 0
    for batch in file.iter_batches(min(rows, _fitting(file))):
        given += sum(map(_size, batch.columns))
        _refuse_beyond(most, given, path)
        yield batch


def _size(column: pa.Array) -> int:
    """Bytes of a column with each of its values written out."""
    whole = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return int(whole.nbytes)


def _fitting(file: pq.ParquetFile) -> int:
    """Rows of which a batch has a moderate size, by the longest of the first ones."""
    first = next(file.iter_batches(_SAMPLED), None)
    if first is None or not first.num_rows:
        return _BATCH
    longest: int = max(first.slice(at, 1).nbytes for at in range(first.num_rows))
    return max(1, _BATCH_BYTES // max(longest, 1))


def _refuse_beyond(most: int, size: int, path: Path) -> None:
    if size > most:
        raise DataError(
            f"{shown(path)} grows from {path.stat().st_size:,} to over {most:,} bytes, more than "
            f"{_MAX_RATIO} times; if that is meant, write it again in shards or without compression"
        )


def parquet_columns(path: Path) -> list[str]:
    """The names of a parquet file's columns."""
    try:
        names: list[str] = pq.read_schema(path).names
    except _UNREADABLE as error:
        raise _damaged(path, "parquet", error) from None
    return names


def parquet(path: Path) -> Iterator[Record]:
    """The rows of a parquet file."""
    return _records(parquet_batches(path))


def arrow(paths: Iterable[Path]) -> Iterator[Record]:
    """The rows of Arrow streams, one file after another."""
    return _records(batch for path in paths for batch in _arrow_batches(path))


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        # not a memory map: a file that is cut off while it is read would end the process
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                batch.validate(full=True)  # offsets beyond their buffers would end it too
                yield batch
    except _UNREADABLE as error:
        raise _damaged(path, "an Arrow stream", error) from None


def _damaged(path: Path, what: str, error: Exception) -> DataError:
    text = str(error).partition("\n")[0][:200]
    return DataError(
        f"{shown(path)} cannot be read as {what}, or is damaged ({text}): get it again"
    )


def _records(batches: Iterable[pa.RecordBatch]) -> Iterator[Record]:
    row = 0
    for batch in batches:
        calls = any(map(_has_calls, batch.schema))
        for record in _values(batch):
            row += 1
            yield row, without_nulls(record) if calls else record


def _has_calls(field: pa.Field) -> bool:
    """Whether a column holds objects with calls, or functions to call."""
    inner = [field.type.field(at) for at in range(field.type.num_fields)]
    return (field.name in CALL_KEYS and bool(inner)) or any(map(_has_calls, inner))


def _values(batch: pa.RecordBatch) -> list[Row | BadRow]:
    try:
        rows: list[Row | BadRow] = batch.to_pylist()
    except UnicodeDecodeError:
        return [_value(batch.slice(at, 1)) for at in range(batch.num_rows)]
    return rows


def _value(row: pa.RecordBatch) -> Row | BadRow:
    try:
        value: Row = row.to_pylist()[0]
    except UnicodeDecodeError as error:
        return BadRow("invalid_utf8", f"a text is not UTF-8 ({error.reason})")
    return value


def csv_rows(stream: BinaryIO, name: str) -> Iterator[Record]:
    """The records of a CSV file with a header: every cell is text, as it stands.

    Raises:
        DataError: no header, a column twice, or a quote that is never closed.
    """
    csv.field_size_limit(MAX_LINE)
    with io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, strict=True)
        header = _header(reader, name)
        yield from enumerate(_csv_records(reader, header, name), 1)


def _csv_records(reader: Any, header: list[str], name: str) -> Iterator[Row | BadRow]:
    while True:
        begun = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _broken(error, name, begun)
            continue
        if cells:  # a blank line is no record
            yield _cells(header, cells)


def _header(reader: Any, name: str) -> list[str]:
    try:
        header: list[str] = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{name}, line 1: the header cannot be read ({error})") from None
    if not _is_text(header):
        raise DataError(f"{name}, line 1: the header is not UTF-8; convert the file with iconv")
    twice = sorted({key for key in header if header.count(key) > 1})
    if not header or twice:
        found = f"has the columns {', '.join(twice)} twice" if twice else "has no header"
        raise DataError(f"{name}, line 1: {found}; expected one name a column")
    return header


def _broken(error: csv.Error, name: str, line: int) -> BadRow:
    if "unexpected end" in str(error) or "field larger" in str(error):
        raise DataError(f"{name}, line {line}: a quote is opened and never closed") from None
    return BadRow("not_csv", f"line {line}: {error}")


def _cells(header: list[str], cells: list[str]) -> Row | BadRow:
    if len(cells) != len(header):
        return BadRow("wrong_width", f"expected {len(header)} cells, got {len(cells)}")
    if not _is_text(cells):
        return BadRow("invalid_utf8", "a cell is not UTF-8")
    return dict(zip(header, cells, strict=True))


def _is_text(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:  # `surrogateescape` marks bytes that are not UTF-8
        return False
    return True
