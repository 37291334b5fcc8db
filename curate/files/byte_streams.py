"""Byte streams of files, pipes and standard input; files decompressed with a limit."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import sys
import time
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import zstandard

from siftune.curate.core.errors import DataError

__all__ = ["MAX_RATIO", "SUFFIXES", "copy_stream", "open_pipe", "open_stdin", "opened", "shown"]

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


_WAIT: Final = 20.0  # seconds
_PAUSE: Final = 0.05
_CHUNK: Final = 1 << 20


def open_pipe(path: Path, wait: float = _WAIT) -> BinaryIO:
    """The bytes of a pipe; once it has a writer, reading takes as long as that does.

    Raises:
        DataError: it is a device; while reading: nobody has opened it for writing for ``wait``
            seconds.
    """
    if path.is_char_device() or path.is_block_device():
        raise DataError(f"{shown(path)} is a device, which may never end: name a file or a pipe")
    if sys.platform == "win32":
        raise DataError(f"{shown(path)} is a pipe, which is not read on Windows: name a file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    waiting = _Waiting(path, os.fdopen(descriptor, "rb", buffering=0), wait)
    return cast("BinaryIO", io.BufferedReader(waiting, 1 << 20))


def open_stdin() -> BinaryIO:
    """The bytes of standard input.

    Raises:
        DataError: it is closed, or a device that may never end, such as ``/dev/zero``.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise DataError("standard input is closed: name a file, or pipe rows in")
    stream = sys.stdin.buffer
    if _is_endless(stream):
        raise DataError("standard input is a device, which may never end: pipe a file in")
    return stream


def _is_endless(stream: BinaryIO) -> bool:
    """Whether it is a device other than a terminal and ``/dev/null``, which both end."""
    try:
        known = os.fstat(stream.fileno())
    except (OSError, ValueError):  # a stream in memory
        return False
    if stat.S_ISBLK(known.st_mode):
        return True
    if sys.platform == "win32":  # its devices have no numbers; NUL and consoles end
        return False
    ends = stream.isatty() or known.st_rdev == Path(os.devnull).stat().st_rdev
    return stat.S_ISCHR(known.st_mode) and not ends


def copy_stream(stream: BinaryIO, target: BinaryIO, name: str) -> None:
    """Write all of a stream to a file.

    Raises:
        DataError: it begins with `_CHUNK` NUL bytes: a stream of zeros fills the disk.
    """
    first = stream.read(_CHUNK)
    if len(first) == _CHUNK and not first.strip(b"\0"):
        raise DataError(f"{shown(name)} begins with {_CHUNK:,} NUL bytes: it is no data")
    target.write(first)
    shutil.copyfileobj(stream, target, _CHUNK)


class _Waiting(io.RawIOBase):
    """Waits for a writer at the first read; from then on reads block."""

    def __init__(self, path: Path, file: io.FileIO, wait: float) -> None:
        self._path, self._file, self._wait = path, file, wait
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        if not self._begun:
            count = self._first(buffer)
            self._begun = True
            if sys.platform != "win32":  # where `open_pipe` opens none
                os.set_blocking(self._file.fileno(), True)
            if count:
                return count
        return self._file.readinto(buffer)

    def _first(self, buffer: memoryview) -> int | None:
        """The available bytes; None where a writer has written none yet."""
        deadline = time.monotonic() + self._wait
        while (count := self._file.readinto(buffer)) == 0:  # no writer: it is None where one waits
            if time.monotonic() > deadline:
                raise DataError(
                    f"{shown(self._path)} is a pipe that nobody wrote to for {self._wait:g} "
                    "seconds: start the writing command first, or name a file"
                )
            time.sleep(_PAUSE)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
