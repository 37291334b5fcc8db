"""Growth of tables: bytes that Parquet and Arrow files expand to, and their limit by file size.

Values are counted one by one: the text of a dictionary once for each value that points to it,
nested values, and a fixed size for each value and each row, nulls too. So no small file, whatever
its encoding, can take the time or the memory of a large one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from siftune.curate.core.errors import DataError
from siftune.curate.files.byte_streams import shown
from siftune.curate.io.parquet_footer import Chunk

__all__ = [
    "PIECE",
    "Growth",
    "RowGroups",
    "children",
    "expanded",
    "pieces",
    "refuse_columns",
    "smallest",
]

PIECE: Final = 64 << 20
"""Most bytes of values in memory at a time."""
_FREE: Final = 256 << 20  # bytes of values that a small file may expand to
_MAX_RATIO: Final = 100  # how many times its size a larger file may grow
_ROW: Final = 256  # bytes of a row besides its values: about what one leaves in the quarantine
_PLACE: Final = 8  # bytes of a value besides its content
_SAMPLED: Final = 8  # rows that are read to choose the rows of a batch


@dataclass(frozen=True)
class Growth:
    """The limit of expansion for one file of ``size`` bytes."""

    path: Path
    size: int

    @staticmethod
    def of(path: Path) -> Growth:
        """The limit of the file at ``path``."""
        return Growth(path, path.stat().st_size)

    @property
    def most(self) -> int:
        """Most bytes that the file may expand to."""
        return max(_FREE, _MAX_RATIO * self.size)

    def refuse_beyond(self, grown: int) -> None:
        """Check the bytes that the file has expanded to.

        Raises:
            DataError: they are too many; the text has the limit and what to do.
        """
        if grown > self.most:
            raise DataError(
                f"{shown(self.path)} grows from {self.size:,} to over {self.most:,} bytes of rows "
                f"and values, more than {_MAX_RATIO} times; if that is meant, write it again in "
                "shards or without compression"
            )


def smallest(rows: int, values: int) -> int:
    """A lower bound of the bytes of so many rows with so many values."""
    return _ROW * rows + _PLACE * values


def expanded(batch: pa.RecordBatch) -> int:
    """The bytes of a batch with each of its values written out.

    The types are those that `refuse_columns` passes.
    """
    size: int = _ROW * batch.num_rows + sum(map(_expanded, batch.columns))
    return size


def _expanded(array: pa.Array) -> int:
    size: int = _PLACE * len(array)
    if not len(array):
        return 0
    if pa.types.is_dictionary(array.type):
        return size + _of_dictionary(array)
    if pa.types.is_nested(array.type) or isinstance(array, pa.ExtensionArray):
        return size + sum(map(_expanded, children(array)))
    if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
        return size + int(_view_lengths(array).sum())
    return size + int(array.nbytes)


def children(array: pa.Array) -> list[pa.Array]:
    """The arrays of values of a nested array, within its bounds."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return [array.storage]
    if pa.types.is_struct(kind):
        return [array.field(at) for at in range(kind.num_fields)]
    if pa.types.is_map(kind):
        start, stop = (array.offsets[at].as_py() for at in (0, -1))
        return [array.keys[start:stop], array.items[start:stop]]
    return [array.flatten()] if any(is_list(kind) for is_list in _LISTS) else []


def refuse_columns(schema: pa.Schema, path: Path) -> None:
    """Check that each column has a unique name and a type of known expansion.

    Raises:
        DataError: one has not; unions, list views and run-end encoded types are not read.
        UnicodeDecodeError: a name, of a column or within one, is not UTF-8.
    """
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise DataError(f"{shown(path)} has the column {shown(twice[0])} twice: rename one")
    for field in schema:
        if (wrong := _unread(field.type)) is not None:
            raise DataError(
                f"{shown(path)}: the column {shown(field.name)} is of the Arrow type "
                f"{str(wrong)[:80]}, which is not read: leave it out, or write it as lists or text"
            )


def _unread(kind: pa.DataType) -> pa.DataType | None:
    """The first type in ``kind`` that is not supported; None if all are."""
    if isinstance(kind, pa.BaseExtensionType):
        return _unread(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _unread(kind.value_type)
    known = pa.types.is_struct(kind) or pa.types.is_map(kind) or any(one(kind) for one in _LISTS)
    if pa.types.is_run_end_encoded(kind) or (pa.types.is_nested(kind) and not known):
        return kind
    fields = [kind.field(at) for at in range(kind.num_fields)]
    inner = [_unread(field.type) for field in fields if field.name is not None]  # decodes the name
    return next((wrong for wrong in inner if wrong is not None), None)


_LISTS: Final = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def _of_dictionary(array: pa.DictionaryArray) -> int:
    """Bytes of the values that are pointed to, once for each pointer; an upper bound if nested."""
    values = array.dictionary
    if _is_text(values.type):
        return int(pc.sum(pc.take(pc.binary_length(values), array.indices)).as_py() or 0)
    return _longest_of(values) * len(array)


def _longest_of(values: pa.Array) -> int:
    """The bytes of the longest value of a dictionary."""
    if _is_text(values.type):
        return int(pc.max(pc.binary_length(values)).as_py() or 0)
    return max((_expanded(values[at : at + 1]) for at in range(len(values))), default=0)


def _is_text(kind: pa.DataType) -> bool:
    return any(is_text(kind) for is_text in _TEXTS)


_TEXTS: Final = (
    pa.types.is_string,
    pa.types.is_binary,
    pa.types.is_large_string,
    pa.types.is_large_binary,
)


def _view_lengths(array: pa.Array) -> np.ndarray:
    """The length of each text of an array of views, which may share their bytes; of nulls 0."""
    lengths = np.frombuffer(array.buffers()[1], np.int32)[:: 16 // 4]
    mine = lengths[array.offset : array.offset + len(array)].astype(np.int64)
    return np.where(np.asarray(array.is_valid()), mine, 0)


def pieces(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """The batch in slices of at most ``rows`` rows and, unless a row is longer, `PIECE` bytes."""
    for at in range(0, batch.num_rows, rows):
        yield from _halved(batch[at : at + rows])


def _halved(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.num_rows < 2 or expanded(batch) <= PIECE:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _halved(batch[:half])
    yield from _halved(batch[half:])


class RowGroups:
    """The row groups of a Parquet file, and the number of rows of each in a batch of moderate size.

    ``texts`` is the same file opened so that columns of text come as dictionaries, whose longest
    text every row of a batch may point to.
    """

    def __init__(self, file: pq.ParquetFile, path: Path, chunks: Sequence[Sequence[Chunk]]) -> None:
        self._file, self._known, self._chunks = file, file.metadata, chunks
        self._texts = [
            column.path
            for column in map(file.schema.column, range(len(file.schema)))
            if column.physical_type == "BYTE_ARRAY"
        ]
        self._coded = pq.ParquetFile(
            path, metadata=self._known, read_dictionary=self._texts, page_checksum_verification=True
        )

    def __enter__(self) -> RowGroups:
        return self

    def __exit__(self, *error: object) -> None:
        self._coded.close()

    def least(self) -> int:
        """Bytes that the file expands to at least, by its metadata."""
        schema, known = self._file.schema, self._known
        listed = [at for at in range(len(schema)) if schema.column(at).max_repetition_level]
        size = smallest(known.num_rows, known.num_rows * (len(schema) - len(listed)))
        for group, chunks in enumerate(self._chunks):
            size += known.row_group(group).total_byte_size
            size += smallest(0, sum(chunks[at].values for at in listed))
        return size

    def alike(self, rows: int) -> Iterator[tuple[int, list[int]]]:
        """Runs of row groups, and the rows of a batch of each: at most ``rows``."""
        numbers = range(self._known.num_row_groups)
        for height, run in groupby(numbers, lambda group: self._fitting(group, rows)):
            yield height, list(run)

    def _fitting(self, group: int, rows: int) -> int:
        known = self._known.row_group(group)
        mean = known.total_byte_size // max(known.num_rows, 1)
        longest = max(mean, smallest(1, known.num_columns))
        long = [
            chunk.path
            for chunk in self._chunks[group]
            if _may_be_long(chunk, min(rows, known.num_rows))
        ]
        if long:
            first = next(self._coded.iter_batches(1, [group], long), None)
            longest = max(longest, 0 if first is None else sum(map(_longest_text, first.columns)))
        if group == 0:
            longest = max(longest, self._longest_of_first())
        height: int = min(rows, PIECE // longest)
        return max(1, height)

    def _longest_of_first(self) -> int:
        """The bytes of the longest of the first rows of the file."""
        first = next(self._file.iter_batches(_SAMPLED), None)
        if first is None:
            return 0
        return max((first[at : at + 1].nbytes for at in range(first.num_rows)), default=0)


def _may_be_long(chunk: Chunk, rows: int) -> bool:
    """Whether a batch could be large because each row points to a long text of a dictionary."""
    if chunk.dictionary_at is None or not chunk.is_text:
        return False
    most = chunk.unpacked_size if chunk.packed else chunk.data_at - chunk.dictionary_at
    return most * rows > PIECE


def _longest_text(array: pa.Array) -> int:
    """The longest text of the dictionaries in a column."""
    if pa.types.is_dictionary(array.type):
        return _longest_of(array.dictionary)
    return sum(map(_longest_text, children(array))) if len(array) else 0
