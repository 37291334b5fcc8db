"""Read a stream of lines in blocks of whole lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.core.errors import BadRow
from siftune.curate.native.jsonl.tokens import line_feeds
from siftune.curate.records import json_lines
from siftune.curate.records.json_lines import too_long

__all__ = ["BLOCK", "PAD", "Block", "blocks"]

BLOCK: Final = 8 << 20
"""Bytes that are read at a time: a block should fit in the processor's cache."""

PAD: Final = 128
"""Zero bytes after the last line, for loops that read many bytes at a time."""

_WINDOW: Final = 1 << 16
_Bytes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """``lines`` whole lines in ``data[:size]``, each with a line feed; ``first`` is a line number.

    ``cut``: the last line of the file had no line feed. A block of 0 bytes is one line that is too
    long, with the error in ``wrong``. The memory is reused for the next block.
    """

    data: _Bytes
    size: int
    first: int
    lines: int
    cut: bool = False
    wrong: BadRow | None = None


def blocks(stream: BinaryIO) -> Iterator[Block]:
    """The lines of a stream in blocks of about `BLOCK` bytes, or of one longer line."""
    buffer, rest, number, read = bytearray(), b"", 1, 1
    while read or rest:
        size = len(rest) + max(BLOCK, len(rest))
        if len(buffer) < size + 1 + PAD:
            buffer = bytearray(size + 1 + PAD)
        filled, read = _fill(stream, buffer, rest, size)
        cut = bool(not read and filled and not buffer.endswith(b"\n", 0, filled))
        end = filled if cut else buffer.rfind(b"\n", 0, filled)
        if end < 0 and filled >= json_lines.MAX_LINE:
            length, rest = _skip(stream, filled)
            yield Block(np.zeros(0, np.uint8), 0, number, 1, wrong=too_long(length))
            number += 1
            continue
        rest = bytes(memoryview(buffer)[end + 1 : filled])
        if end >= 0:
            buffer[end : end + 1 + PAD] = b"\n" + bytes(PAD)
            data = np.frombuffer(buffer, np.uint8)
            lines = line_feeds(data, end + 1)
            yield Block(data, end + 1, number, lines, cut)
            number += lines


def _fill(stream: BinaryIO, buffer: bytearray, rest: bytes, size: int) -> tuple[int, int]:
    """Read up to ``size`` bytes after ``rest``: the bytes there are, and 0 at the stream's end."""
    buffer[: len(rest)] = rest
    filled, read = len(rest), 1
    with memoryview(buffer) as view:
        while filled < size and read:
            read = stream.readinto(view[filled:size])  # type: ignore[attr-defined]
            filled += read
    return filled, read


def _skip(stream: BinaryIO, length: int) -> tuple[int, bytes]:
    """Read past the end of a line: its length in bytes, and the bytes read after it."""
    while chunk := stream.read(_WINDOW):
        line, found, rest = chunk.partition(b"\n")
        length += len(line) + len(found)
        if found:
            return length, rest
    return length, b""
