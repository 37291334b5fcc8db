"""Number of records in files: counted where that is quick, else estimated from some bytes."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from siftune.curate.io.file_part import Part

__all__ = ["Records", "records"]

_COUNTED: Final = 64 << 20  # bytes of lines that are counted, not estimated
_PROBE: Final = 1 << 18  # bytes read at each place of a longer file
_PROBES: Final = 16
_HEAD: Final = 4 << 20  # bytes read of a file that can only be read from its beginning
_READ: Final = 1 << 14  # bytes that a decompressor takes at a time
_DAMAGED: Final = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError)
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Records:
    """A number of records, and whether it was counted or estimated."""

    count: int
    counted: bool


def records(parts: Iterable[Part]) -> Records:
    """Number of records in all parts, with blank lines and lines that cannot be read."""
    found = [_records(part) for part in parts]
    return Records(sum(one.count for one in found), all(one.counted for one in found))


def _records(part: Part) -> Records:
    if part.container in ("parquet", "rows"):
        return Records(int(pq.read_metadata(part.paths[0]).num_rows), counted=True)
    if part.container == "arrow":
        return Records(sum(map(_arrow_rows, part.paths)), counted=True)
    path = part.paths[0]
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if part.container == "lines" and not magic.startswith((_GZIP, _ZSTD)):
            return _lines(file, part.size)
        try:
            text = _expanded(file, magic).read(_HEAD)
        except _DAMAGED:
            return Records(0, counted=False)  # the error comes when the file is read
        whole = len(text) < _HEAD
        share = 1.0 if whole else min(1.0, file.tell() / part.size)
    count = _COUNTS[part.container](text, whole)
    return Records(round(count / share), counted=whole)


def _arrow_rows(path: Path) -> int:
    with pa.memory_map(str(path)) as file:
        return sum(batch.num_rows for batch in pa.ipc.open_stream(file))


def _expanded(file: IO[bytes], magic: bytes) -> IO[bytes]:
    if magic.startswith(_GZIP):
        short: Any = _ShortReads(file)
        return gzip.GzipFile(fileobj=short)  # type: ignore[return-value]
    if magic.startswith(_ZSTD):
        library = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        return library.stream_reader(file, _READ, read_across_frames=True, closefd=False)
    return file


@dataclass(frozen=True)
class _ShortReads:
    """A file read a little at a time, so that its position shows what was decompressed.

    From Python 3.12 on `gzip` takes 128 KiB at once, often far more than the text needed.
    """

    file: IO[bytes]

    def read(self, size: int = _READ) -> bytes:
        """The next bytes, ``size`` at most."""
        return self.file.read(min(size, _READ) if size >= 0 else _READ)


def _lines(file: IO[bytes], size: int) -> Records:
    if size <= _COUNTED:
        count, last = 0, b"\n"
        while text := file.read(_HEAD):
            count, last = count + text.count(b"\n"), text[-1:]
        return Records(count + (last != b"\n"), counted=True)
    ends = 0
    for probe in range(_PROBES):
        file.seek((size - _PROBE) * probe // (_PROBES - 1))
        ends += file.read(_PROBE).count(b"\n")
    return Records(round(ends / (_PROBE * _PROBES) * size), counted=False)


def _text_lines(text: bytes, whole: bool) -> float:
    return text.count(b"\n") + (whole and not text.endswith(b"\n"))


def _csv_rows(text: bytes, whole: bool) -> float:
    """Rows after the header; a cell may hold line ends."""
    rows = sum(1 for row in csv.reader(text.decode(errors="replace").splitlines(True)) if row)
    return max(0, rows - 1)


def _values(text: bytes, whole: bool) -> float:
    """Number of objects, by the key that the first one begins with."""
    begin, end = text.find(b'"'), text.find(b'":')
    key: Any = text[begin : end + 1] if 0 <= begin < end else b"{"
    return text.count(key)


_COUNTS: Final = {"lines": _text_lines, "csv": _csv_rows, "values": _values}
