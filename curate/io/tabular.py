"""Records of tables: parquet, CSV, and the Arrow files of a saved `datasets` folder."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from siftune.curate.core.errors import BadRow, DataError
from siftune.curate.core.types import Row
from siftune.curate.files.byte_streams import shown
from siftune.curate.io.arrow_stream import check_stream
from siftune.curate.io.expansion_limits import Growth, RowGroups, expanded, pieces, refuse_columns
from siftune.curate.io.parquet_footer import Chunk, chunks_of
from siftune.curate.io.table_values import values
from siftune.curate.records.json_lines import MAX_LINE
from siftune.curate.rows.tool_calls import CALL_KEYS, without_nulls

__all__ = ["Record", "arrow", "csv_rows", "parquet", "parquet_batches", "parquet_columns"]

_BATCH: Final = 1024
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
    refuse_columns(file.schema_arrow, path)
    chunks = chunks_of(path)
    if [len(group) for group in chunks] != [len(file.schema)] * file.num_row_groups:
        raise pa.ArrowInvalid("the footer is damaged: a row group lacks a column")
    _refuse_two_files(file, path, chunks)
    growth, given = Growth.of(path), 0
    with RowGroups(file, path, chunks) as groups:
        growth.refuse_beyond(groups.least())
        for height, run in groups.alike(rows):
            for batch in file.iter_batches(height, row_groups=run):
                given += expanded(batch)
                growth.refuse_beyond(given)
                yield batch


def _refuse_two_files(file: pq.ParquetFile, path: Path, chunks: Sequence[Sequence[Chunk]]) -> None:
    """Refuse files put one after another: the last footer would read the bytes of the first.

    Between the last page and the footer are indexes at most.

    Raises:
        DataError: the end of one file and the start of another are there.
    """
    ends = (chunk.end for group in chunks for chunk in group)
    footer = path.stat().st_size - file.metadata.serialized_size - 8
    with path.open("rb") as stream:
        stream.seek(max(0, min(max(ends, default=4), footer)))
        between = stream.read(footer - stream.tell())
    if b"PAR1PAR1" in between:
        raise DataError(f"{shown(path)} is several parquet files in one: give them one by one")


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
    growth, given = Growth.of(path), 0
    try:
        check_stream(growth)
        # no memory map: a file that is cut off while it is read would end the process
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
            refuse_columns(stream.schema, path)
            for batch in stream:
                batch.validate(full=True)  # offsets beyond their buffers would end it too
                given += expanded(batch)
                growth.refuse_beyond(given)
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
    for whole in batches:
        calls = any(map(_has_calls, whole.schema))
        for batch in pieces(whole, _BATCH):
            for record in values(batch):
                row += 1
                yield row, without_nulls(record) if calls else record


def _has_calls(field: pa.Field) -> bool:
    """Whether a column contains objects with calls, or functions to call."""
    inner = [field.type.field(at) for at in range(field.type.num_fields)]
    return (field.name in CALL_KEYS and bool(inner)) or any(map(_has_calls, inner))


def csv_rows(stream: BinaryIO, name: str) -> Iterator[Record]:
    """The records of a CSV file with a header: every cell is text.

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
    twice = sorted(key for key, count in Counter(header).items() if count > 1)
    if not header or twice:
        found = f"has the columns {', '.join(twice)} twice" if twice else "has no header"
        raise DataError(f"{name}, line 1: {found}; expected one name a column")
    return header


def _broken(error: csv.Error, name: str, line: int) -> BadRow:
    if "unexpected end" in str(error):
        raise DataError(f"{name}, line {line}: a quote is opened and never closed") from None
    if "field larger" in str(error):
        raise DataError(
            f"{name}, line {line}: a cell is longer than {MAX_LINE:,} bytes; is a quote opened and "
            "never closed?"
        ) from None
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
