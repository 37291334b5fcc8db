"""A stream of lines in blocks of whole lines."""

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
"""Bytes that are read at a time: few enough to be still in the cache for what is done with them."""

PAD: Final = 128
"""Zero bytes behind the last line, for those who look at many bytes at a time."""

_WINDOW: Final = 1 << 16
_Bytes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """``lines`` whole lines: ``data[:size]``, the last with a line feed; the first is ``first``.

    ``cut`` says that the last had none. A block of no bytes stands for one line that is too long,
    as ``wrong`` says. The next block is read to the same place: be done with one before.
    """

    data: _Bytes
    size: int
    first: int
    lines: int
    cut: bool = False
    wrong: BadRow | None = None


def blocks(stream: BinaryIO) -> Iterator[Block]:
    """The lines of a stream, in blocks of about `BLOCK` bytes, or of one line where it is long."""
    held, rest, number, read = bytearray(), b"", 1, 1
    while read or rest:
        size = len(rest) + max(BLOCK, len(rest))
        if len(held) < size + 1 + PAD:
            held = bytearray(size + 1 + PAD)
        filled, read = _fill(stream, held, rest, size)
        cut = bool(not read and filled and not held.endswith(b"\n", 0, filled))
        end = filled if cut else held.rfind(b"\n", 0, filled)
        if end < 0 and filled >= json_lines.MAX_LINE:
            length, rest = _skip(stream, filled)
            yield Block(np.zeros(0, np.uint8), 0, number, 1, wrong=too_long(length))
            number += 1
            continue
        rest = bytes(memoryview(held)[end + 1 : filled])
        if end >= 0:
            held[end : end + 1 + PAD] = b"\n" + bytes(PAD)
            data = np.frombuffer(held, np.uint8)
            lines = line_feeds(data, end + 1)
            yield Block(data, end + 1, number, lines, cut)
            number += lines


def _fill(stream: BinaryIO, held: bytearray, rest: bytes, size: int) -> tuple[int, int]:
    """Put ``rest`` and more up to ``size`` bytes; how many there are, and 0 at the stream's end."""
    held[: len(rest)] = rest
    filled, read = len(rest), 1
    with memoryview(held) as view:
        while filled < size and read:
            read = stream.readinto(view[filled:size])  # type: ignore[attr-defined]
            filled += read
    return filled, read


def _skip(stream: BinaryIO, length: int) -> tuple[int, bytes]:
    """Read past a line's end: its length, and what was read behind it."""
    while chunk := stream.read(_WINDOW):
        line, found, rest = chunk.partition(b"\n")
        length += len(line) + len(found)
        if found:
            return length, rest
    return length, b""
