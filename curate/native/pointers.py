"""Bytes and words at memory addresses, for compiled loops: reads, writes, copies, prefetch.

The bodies are the plain Python form; compiled loops use the functions of the same names in
`native.llvm`.
"""

from __future__ import annotations

import ctypes
from typing import Any

from siftune.curate.native.jit import intrinsic

__all__ = [
    "byte",
    "clear",
    "copy",
    "copy_block",
    "prefetch",
    "put_byte",
    "put_length",
    "put_word",
    "word",
]


@intrinsic
def byte(base: Any, index: Any) -> Any:
    """The byte at address ``base + index``; cheaper than passing an array from call to call."""
    return ctypes.c_uint8.from_address(int(base + index)).value


@intrinsic
def word(base: Any, index: Any) -> Any:
    """Item ``index`` of the int64 array at address ``base``."""
    return ctypes.c_int64.from_address(int(base + 8 * index)).value


@intrinsic
def put_byte(base: Any, index: Any, value: Any) -> None:
    """Write the low 8 bits of ``value`` to address ``base + index``."""
    ctypes.c_uint8.from_address(int(base + index)).value = int(value)


@intrinsic
def put_word(base: Any, index: Any, value: Any) -> None:
    """Write item ``index`` of the int64 array at address ``base``."""
    ctypes.c_int64.from_address(int(base + 8 * index)).value = int(value)


@intrinsic
def put_length(address: Any, value: Any) -> None:
    """Write the low 32 bits of ``value``, little-endian."""
    ctypes.c_uint32.from_address(int(address)).value = int(value)


@intrinsic
def copy(to: Any, source: Any, count: Any) -> None:
    """Copy ``count`` bytes between areas that do not overlap."""
    ctypes.memmove(int(to), int(source), int(count))


@intrinsic
def clear(to: Any, count: Any) -> None:
    """Write ``count`` zero bytes."""
    ctypes.memset(int(to), 0, int(count))


@intrinsic
def copy_block(to: Any, source: Any) -> None:
    """Copy 64 bytes."""
    ctypes.memmove(int(to), int(source), 64)


@intrinsic
def prefetch(address: Any) -> None:
    """Prefetch the cache line at an address; an invalid address does no harm."""
