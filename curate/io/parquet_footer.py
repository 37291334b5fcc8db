"""Column chunks of a Parquet file, parsed from its footer.

pyarrow ends the whole process where its `RowGroupMetaData.column` reads a chunk that it cannot
parse (an unknown codec, statistics of another size), so the few numbers that are needed are parsed
here, from the Thrift compact protocol of the footer.
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

__all__ = ["Chunk", "chunks_of"]

_TAIL: Final = 8  # bytes at the end of a file: how long the footer is, and PAR1
_DEPTH: Final = 32  # structs within structs; Parquet's own are six deep
_TEXT: Final = 6  # BYTE_ARRAY
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY = 1, 2, 3, (4, 5, 6), 7, 8
_LISTS, _MAP, _STRUCT = (9, 10), 11, 12


@dataclass(frozen=True)
class Chunk:
    """One column of one row group: sizes in bytes, offsets from the start of the file."""

    path: str
    is_text: bool
    packed: bool
    values: int
    unpacked_size: int
    size: int
    data_at: int
    dictionary_at: int | None

    @property
    def end(self) -> int:
        """The offset after its last page."""
        return min(self.data_at, self.dictionary_at or self.data_at) + self.size


def chunks_of(path: Path) -> list[list[Chunk]]:
    """The column chunks of each row group of a file whose footer pyarrow has read.

    Raises:
        pyarrow.ArrowInvalid: the footer is damaged.
    """
    with path.open("rb") as stream:
        stream.seek(-_TAIL, 2)
        size = int.from_bytes(stream.read(4), "little")
        stream.seek(-_TAIL - size, 2)
        footer = stream.read(size)
    try:
        groups = _Reader(footer).struct().get(4, [])
        return [[_chunk(chunk[3]) for chunk in group[1]] for group in groups]
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise pa.ArrowInvalid(f"the footer is damaged: {error!r}") from None


def _chunk(meta: Mapping[int, Any]) -> Chunk:
    return Chunk(
        path=".".join(name.decode() for name in meta[3]),
        is_text=meta[1] == _TEXT,
        packed=meta[4] != 0,
        values=int(meta[5]),
        unpacked_size=int(meta[6]),
        size=int(meta[7]),
        data_at=int(meta[9]),
        dictionary_at=int(meta[11]) if 11 in meta else None,
    )


class _Reader:
    """Values of the Thrift compact protocol, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields of a struct by their numbers."""
        if depth > _DEPTH:
            raise ValueError("structs nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._integer()
            fields[number] = kind == _TRUE if kind <= _FALSE else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BINARY:
            return self._bytes(self._number())
        if kind in _LISTS:
            return self._list(depth)
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _MAP:
            return self._map(depth)
        if kind in (_TRUE, _FALSE, _BYTE):  # of a list: a byte each
            return self._byte()
        raise ValueError(f"no value is of kind {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = self._number() if head >> 4 == 15 else head >> 4
        return [self._value(head & 15, depth + 1) for _ in range(count)]

    def _map(self, depth: int) -> list[Any]:
        count = self._number()
        if not count:
            return []
        kinds = self._byte()
        of = (kinds >> 4, kinds & 15)
        return [self._value(kind, depth + 1) for _ in range(count) for kind in of]

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        self._at += count
        if self._at > len(self._content):
            raise IndexError("a value is cut off by the end")
        return self._content[self._at - count : self._at]

    def _number(self) -> int:
        """A varint: 7 bits a byte, the lowest first; the highest bit means that more follow."""
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _integer(self) -> int:
        """A signed number, zigzag: 0, -1, 1, -2 …."""
        value = self._number()
        return value >> 1 ^ -(value & 1)
