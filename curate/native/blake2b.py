"""BLAKE2b of many texts at once: the same as `hashlib`, eight texts side by side."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.blake2b_simd import IV, LANES, mix
from siftune.curate.native.jit import compiled
from siftune.curate.native.pointers import clear, copy, put_byte, put_word, word

__all__ = ["DIGEST", "WORK", "hash_lanes"]

Ints: TypeAlias = npt.NDArray[np.int64]

DIGEST: Final = 32
"""Hex digits of a digest of 128 bits."""

WORK: Final = 26 * LANES
"""64-bit integers that `hash_lanes` works in: states, blocks, the bytes so far, the last ones."""

_BLOCK: Final = 128  # bytes
_BLOCKS, _COUNT, _LAST = 8 * LANES, 24 * LANES, 25 * LANES  # where they begin in these integers
_START: Final = np.array([IV[0] ^ 0x01010000 ^ DIGEST // 2, *IV[1:]], np.uint64).view(np.int64)
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)


@compiled()
def hash_lanes(data: Any, ends: Ints, texts: int, work: Any, out: Any, places: Ints) -> None:
    """Write the 128-bit BLAKE2b digests of up to `LANES` texts that lie one after the other.

    Text ``i`` of the ``texts`` is what lies from the address ``data + ends[i]`` up to that of the
    next; its digest is written as hex, from the address ``out + places[i]`` on. ``work`` is the
    address of `WORK` integers.
    """
    for i in range(8):
        for lane in range(LANES):
            put_word(work, i * LANES + lane, _START[i])
    at, left = 0, texts
    while left:
        for lane in range(texts):
            low, high = ends[lane] + at, ends[lane + 1]
            put_word(work, _COUNT + lane, at + min(high - low, _BLOCK))
            put_word(work, _LAST + lane, -1 if low + _BLOCK >= high else 0)
            _load(data + low, high - low, work + 8 * _BLOCKS + _BLOCK * lane)
        mix(work, work + 8 * _BLOCKS, work + 8 * _COUNT, work + 8 * _LAST)
        for lane in range(texts):
            size = ends[lane + 1] - ends[lane]
            if max((size - 1) // _BLOCK, 0) * _BLOCK == at:
                left -= 1
                _write(work, lane, out + places[lane])
        at += _BLOCK


@compiled(inline="always")
def _load(begin: Any, left: Any, to: Any) -> None:
    """Copy a block of a text, the rest of it zero; of a text that has ended nothing is left."""
    if left >= _BLOCK:
        copy(to, begin, _BLOCK)
    else:
        clear(to, _BLOCK)
        copy(to, begin, max(left, 0))


@compiled()
def _write(state: int, lane: int, to: Any) -> None:
    for half in range(2):
        value = word(state, half * LANES + lane)
        for i in range(8):
            pair = (value >> (8 * i)) & 255
            put_byte(to, 16 * half + 2 * i, _HEX[pair >> 4])
            put_byte(to, 16 * half + 2 * i + 1, _HEX[pair & 15])
