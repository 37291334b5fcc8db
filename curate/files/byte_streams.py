"""Byte streams of files, decompressed with a limit; the first bytes decide the compression."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Final

import zstandard

from siftune.curate.core.errors import DataError

__all__ = ["MAX_RATIO", "SUFFIXES", "opened", "shown"]

SUFFIXES: Final = (".gz", ".zst")
MAX_RATIO: Final = 500
"""How many times its size a compressed file may grow, once it is beyond `FREE`."""
FREE: Final = 32 << 20

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS: Final = {
    b"PK\x03\x04": "a zip archive; archives are not unpacked: extract it and name the file inside",
    b"BZh": "bzip2; decompress it first (bunzip2)",
    b"\xfd7zXZ": "xz; decompress it first (unxz)",
}


def shown(path: Path | str) -> str:
    """A file's name for messages: control characters are escaped."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def opened(path: Path) -> io.BufferedReader[Any]:
    """The bytes of a file, decompressed by its first bytes; its name does not matter.

    Raises:
        DataError: it cannot be opened or is empty; while reading: it is cut off, damaged, or grows
            beyond `MAX_RATIO` times its size.
    """
    try:
        file: io.BufferedReader[Any] = io.BufferedReader(path.open("rb", 0), 1 << 20)
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror}") from None
    head = file.read(8)
    file.seek(0)
    if not head:
        file.close()
        raise DataError(f"{shown(path)} is empty (0 bytes); was the download or the copy cut off?")
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            file.close()
            raise DataError(f"{shown(path)} is {what}")
    if head.startswith(_GZIP):
        return io.BufferedReader(_Expanded(path, file, gzip.GzipFile(fileobj=file)), 1 << 20)
    if head.startswith(_ZSTD) or _is_skippable(head):
        return io.BufferedReader(_Expanded(path, file, _Zstd(file)), 1 << 20)
    return file


def _is_skippable(head: bytes) -> bool:
    """Whether it begins with zstd's frame for other data, as parallel compressors write."""
    return head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5


class _Expanded(io.RawIOBase):
    """Counts decompressed bytes, and names the file in errors."""

    def __init__(self, path: Path, file: BinaryIO, stream: io.RawIOBase | gzip.GzipFile) -> None:
        self._path, self._file, self._stream = path, file, stream
        self._size, self._given = path.stat().st_size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            count = self._stream.readinto(buffer) or 0
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            raise DataError(
                f"{shown(self._path)} is damaged after {self._given:,} decompressed bytes "
                f"({error}): get it again; no row of it was taken"
            ) from None
        self._given += count
        if self._given > max(FREE, MAX_RATIO * self._size):
            raise DataError(
                f"{shown(self._path)} grows from {self._size:,} to over {self._given:,} bytes, "
                f"more than {MAX_RATIO} times; if that is meant, decompress it yourself first"
            )
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Zstd(io.RawIOBase):
    """Decompresses frames one by one; the library's own stream accepts one that is cut off."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._buffer, self._at = file, b"", 0
        self._library = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while self._at >= len(self._buffer):
            chunk = self._file.read(1 << 13)  # small: a block may grow 30,000 times
            if not chunk:
                if self._frame is not None:
                    raise EOFError("it ends in the middle of a frame")
                return 0
            self._buffer, self._at = self._expand(chunk), 0
        count = min(len(buffer), len(self._buffer) - self._at)
        buffer[:count] = self._buffer[self._at : self._at + count]
        self._at += count
        return count

    def _expand(self, chunk: bytes) -> bytes:
        parts = []
        while chunk:
            self._frame = self._frame or self._library.decompressobj()
            parts.append(self._frame.decompress(chunk))
            chunk = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        return b"".join(parts)
