"""Pipes and standard input: read once; a wait or a stream without end is an error."""

from __future__ import annotations

import io
import os
import shutil
import stat
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final, cast

from siftune.curate.core.errors import DataError
from siftune.curate.files.byte_streams import shown

__all__ = ["copy_stream", "open_pipe", "open_stdin"]

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
