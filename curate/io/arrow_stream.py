"""Check Arrow streams by their headers: the size of each message unpacked, and the stream's end.

A header is a flatbuffer, of which a few numbers are read here: Arrow itself would first make what
it describes. https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from siftune.curate.core.errors import DataError
from siftune.curate.files.byte_streams import shown
from siftune.curate.io.expansion_limits import Growth, smallest

__all__ = ["check_stream"]

_CONTINUES: Final = 0xFFFFFFFF
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_MESSAGE_FREE: Final = 256 << 20  # bytes that a small message may unpack to
_MESSAGE_RATIO: Final = 20  # how many times its size a larger message may grow


def check_stream(growth: Growth) -> None:
    """Check the messages of a stream without unpacking them.

    Raises:
        DataError: they expand beyond the limit; the stream is damaged, has no end, or ends before
            the file does.
    """
    grown = 0
    with growth.path.open("rb") as stream:
        try:
            while (message := _next(stream, growth.size)) is not None:
                size, rows, values = message.expands(stream)
                grown += size + smallest(rows, values)
                growth.refuse_beyond(grown)
                _refuse_packed(growth, size, message.length)
                stream.seek(message.body + message.length)
        except (struct.error, IndexError, ValueError, OverflowError) as error:
            raise DataError(
                f"{shown(growth.path)} cannot be read as an Arrow stream, or is damaged or cut off "
                f"({error or 'no end mark'}): get it again"
            ) from None
        if growth.size - stream.tell() >= 8:
            raise DataError(
                f"{shown(growth.path)} has {growth.size - stream.tell():,} bytes after the "
                "end of its Arrow stream: are several files in one? get it again"
            )


def _refuse_packed(growth: Growth, size: int, length: int) -> None:
    most = max(_MESSAGE_FREE, _MESSAGE_RATIO * length)
    if size > most:
        raise DataError(
            f"{shown(growth.path)} has a batch that grows from {length:,} to {size:,} bytes; "
            "if that is meant, write it again in smaller batches or without compression"
        )


@dataclass(frozen=True)
class _Message:
    """The header of a message, and the position of its body."""

    header: bytes
    body: int
    length: int

    def expands(self, stream: BinaryIO) -> tuple[int, int, int]:
        """Bytes, rows and values of its body, unpacked."""
        root = _u32(self.header, 0)
        kind = _field(self.header, root, 1, "<B")
        if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
            return 0, 0, 0
        batch = _table(self.header, root, 2)
        if kind == _DICTIONARY_BATCH:
            batch = _table(self.header, batch, 1)
        rows = _field(self.header, batch, 0, "<q") if kind == _RECORD_BATCH else 0
        values = sum(length for length, _ in _pairs(self.header, batch, 1))
        buffers = _pairs(self.header, batch, 2)
        packed = _offset(self.header, batch, 3) is not None
        sizes = (self._size(stream, *buffer) if packed else buffer[1] for buffer in buffers)
        return sum(sizes), _not_negative(rows), _not_negative(values)

    def _size(self, stream: BinaryIO, start: int, length: int) -> int:
        """The size of a packed buffer, in its first bytes; -1 means that it is not packed."""
        if not length:
            return 0
        stream.seek(self.body + start)
        (size,) = struct.unpack("<q", stream.read(8))
        return length if size == -1 else _not_negative(size)


def _next(stream: BinaryIO, end: int) -> _Message | None:
    """The next message; none at the end of the stream."""
    (length,) = struct.unpack("<I", stream.read(4))
    if length == _CONTINUES:  # older streams lack it
        (length,) = struct.unpack("<I", stream.read(4))
    if length == 0:
        return None
    header = stream.read(length) if length <= end - stream.tell() else b""
    if len(header) < length:
        raise ValueError("it ends in the middle of a message")
    body, size = stream.tell(), _field(header, _u32(header, 0), 3, "<q")
    if not 0 <= size <= end - body:
        raise ValueError("it ends in the middle of a message")
    return _Message(header, body, size)


def _not_negative(value: int) -> int:
    if value < 0:
        raise ValueError("a length is negative")
    return value


def _u32(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("<I", data, _not_negative(at))[0]
    return value


def _offset(data: bytes, table: int, number: int) -> int | None:
    """The position of a field of a flatbuffer table; None where it has the default value."""
    fields = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, _not_negative(fields))[0]:
        return None
    (at,) = struct.unpack_from("<H", data, fields + 4 + 2 * number)
    return table + at if at else None


def _field(data: bytes, table: int, number: int, form: str) -> int:
    at = _offset(data, table, number)
    value: int = 0 if at is None else struct.unpack_from(form, data, at)[0]
    return value


def _table(data: bytes, table: int, number: int) -> int:
    at = _offset(data, table, number)
    if at is None:
        raise ValueError("a part of a message is missing")
    return at + _u32(data, at)


def _pairs(data: bytes, table: int, number: int) -> list[tuple[int, int]]:
    """A list of structs of two 64-bit numbers."""
    if (at := _offset(data, table, number)) is None:
        return []
    start = at + _u32(data, at)
    found = data[start + 4 : start + 4 + 16 * _u32(data, start)]
    return [(one, other) for one, other in struct.iter_unpack("<qq", found)]
