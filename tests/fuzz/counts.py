"""How many records a file holds, by readers other than ours: the second count of the fuzz."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Mapping
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import zstandard

__all__ = ["counted"]

_UNREADABLE: Final = (
    *(pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError),
    *(ValueError, RecursionError, EOFError, zstandard.ZstdError),
)


def counted(container: str, content: bytes) -> int | None:
    """The number of records; None where the other reader does not read the file either."""
    try:
        return _COUNTS[container](content)
    except _UNREADABLE:
        return None


def _lines(content: bytes) -> int | None:
    """Lines with anything in them, where the file begins as JSON lines do."""
    if content[:1] != b"{":
        return None
    lines = content.split(b"\n") if b"\n" in content[:65536] else content.split(b"\r")
    return sum(bool(line.strip()) for line in lines)


def _values(content: bytes) -> int | None:
    value = json.loads(content)
    return len(value) if isinstance(value, list) else None


def _parquet(content: bytes) -> int:
    return int(pq.ParquetFile(io.BytesIO(content)).metadata.num_rows)


def _csv(content: bytes) -> int:
    """Rows by the parser of Arrow (ours is Python's), those of another width too."""
    others: list[object] = []

    def skip(row: object) -> str:
        others.append(row)
        return "skip"

    table = pa.csv.read_csv(
        io.BytesIO(content.removeprefix(b"\xef\xbb\xbf")),
        pa.csv.ReadOptions(use_threads=False, encoding="latin1"),  # which has all bytes
        pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
    )
    return int(table.num_rows) + len(others)


def _arrow(content: bytes) -> int:
    """Rows by the reader of polars, which is another implementation than pyarrow's."""
    return pl.read_ipc_stream(io.BytesIO(content), use_pyarrow=False).height


def _zst(content: bytes) -> int | None:
    packed = zstandard.ZstdDecompressor()
    return _lines(packed.stream_reader(content, read_across_frames=True).read())


_COUNTS: Final[Mapping[str, Callable[[bytes], int | None]]] = {
    "jsonl": _lines,
    "json": _values,
    "csv": _csv,
    "parquet": _parquet,
    "arrow": _arrow,
    "zst": _zst,
    "gz": lambda content: _lines(gzip.decompress(content)),
}
