"""Masks of 64 bytes at a time, for compiled loops: bit ``i`` of an uint64 is about byte ``i``.

The bodies are the plain Python form; compiled loops use the functions of the same names in
`native.llvm`.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import compiled, intrinsic

__all__ = [
    "WIDTH",
    "bit_count",
    "drop_bits",
    "first_bit",
    "in_range",
    "last_bit",
    "low_bits",
    "special",
]

WIDTH: Final = 64
"""Bytes that `special` and `in_range` read, however few of them are needed."""


@intrinsic
def special(base: Any, index: Any) -> Any:
    """Mask of quotes, backslashes and control characters among the bytes from ``base + index``."""
    data = _bytes(base + index)
    return _mask((data == 0x22) | (data == 0x5C) | (data < 0x20))


@intrinsic
def in_range(address: Any, fold: Any, low: Any, count: Any) -> Any:
    """Mask of the bytes that, or-ed with ``fold``, are one of the ``count`` values from ``low``."""
    return _mask((_bytes(address) | np.uint8(fold)) - np.uint8(low) < np.uint8(count))


@intrinsic
def drop_bits(mask: Any, count: Any) -> Any:
    """The mask without its lowest ``count`` bits."""
    return np.uint64(int(mask) >> int(count) << int(count)) if count < WIDTH else np.uint64(0)


@intrinsic
def first_bit(mask: Any) -> Any:
    """Index of the lowest bit that is set; 64 if none is."""
    bits = int(mask)
    return (bits & -bits).bit_length() - 1 if bits else WIDTH


@intrinsic
def last_bit(mask: Any) -> Any:
    """Index of the highest bit that is set; -1 if none is."""
    return int(mask).bit_length() - 1


@intrinsic
def bit_count(mask: Any) -> Any:
    """Number of bits that are set."""
    return int(mask).bit_count()


@compiled(inline="always")
def low_bits(count: int | np.int64) -> Any:
    """A mask of the lowest ``count`` bits."""
    return ~np.uint64(0) if count >= WIDTH else (np.uint64(1) << np.uint64(count)) - np.uint64(1)


def _bytes(address: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(ctypes.string_at(int(address), WIDTH), np.uint8)


def _mask(found: npt.NDArray[np.bool_]) -> np.uint64:
    mask: np.uint64 = np.packbits(found, bitorder="little").view("<u8")[0]
    return mask
