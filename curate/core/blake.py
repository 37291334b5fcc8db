"""BLAKE2b of many texts at once: the same as `hashlib`, eight texts side by side."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.core.lanes import LANES, copy, mix

__all__ = ["hex_digests"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

_BLOCK: Final = 128  # bytes
_SIZE: Final = 16  # bytes of a digest
_START: Final = np.array(
    [
        0x6A09E667F3BCC908 ^ 0x01010000 ^ _SIZE,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    ],
    np.uint64,
)
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_ONES: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


def hex_digests(data: Bytes, offsets: Ints) -> Bytes:
    """The 128-bit BLAKE2b digests of texts that lie one after the other, as hex, 32 bytes each.

    ``data`` has at least ``offsets[-1]`` bytes; text ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    """
    blocks = (np.diff(offsets) + _BLOCK - 1) // _BLOCK
    order = np.argsort(blocks, kind="stable")  # so that neighbours end together
    out = np.empty(2 * _SIZE * len(order), np.uint8)
    _hash(data, offsets, order, _START, _HEX, out)
    return out


@njit(cache=True, nogil=True)
def _hash(
    data: Bytes,
    offsets: Ints,
    order: Ints,
    start: npt.NDArray[np.uint64],
    digits: Bytes,
    out: Bytes,
) -> None:
    state = np.empty((8, LANES), np.uint64)
    block = np.empty((16, LANES), np.uint64)
    count = np.empty(LANES, np.uint64)
    last = np.empty(LANES, np.uint64)
    words = np.empty((LANES, 16), np.uint64)
    for begin in range(0, len(order), LANES):
        texts = order[begin : begin + LANES]
        for i in range(8):
            state[i] = start[i]
        at, left = 0, len(texts)
        while left:
            for lane in range(len(texts)):
                low, high = offsets[texts[lane]] + at, offsets[texts[lane] + 1]
                count[lane] = at + min(high - low, _BLOCK)
                last[lane] = _ONES if low + _BLOCK >= high else np.uint64(0)
                _load(data, low, high, words, lane)
            for i in range(16):
                block[i] = words[:, i]
            mix(state.ctypes.data, block.ctypes.data, count.ctypes.data, last.ctypes.data)
            for lane in range(len(texts)):
                size = offsets[texts[lane] + 1] - offsets[texts[lane]]
                if max((size - 1) // _BLOCK, 0) * _BLOCK == at:
                    left -= 1
                    _write(state, lane, digits, out, 2 * _SIZE * texts[lane])
            at += _BLOCK


@njit(cache=True, nogil=True)
def _load(data: Bytes, low: int, high: int, words: npt.NDArray[np.uint64], lane: int) -> None:
    """Copy a block of a text, the rest of it zero; nothing where the text has ended."""
    if high - low < _BLOCK:
        words[lane] = 0
    if low < high:
        copy(words[lane].ctypes.data, data.ctypes.data + low, min(high - low, _BLOCK))


@njit(cache=True, nogil=True)
def _write(state: npt.NDArray[np.uint64], lane: int, digits: Bytes, out: Bytes, place: int) -> None:
    for i in range(16):
        byte = (state[i // 8, lane] >> np.uint64(8 * (i % 8))) & np.uint64(255)
        out[place + 2 * i] = digits[byte >> np.uint64(4)]
        out[place + 2 * i + 1] = digits[byte & np.uint64(15)]
