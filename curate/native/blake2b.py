"""BLAKE2b digests of many texts at once, eight in parallel; equal to those of `hashlib`."""

from __future__ import annotations

import ctypes
import hashlib
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import PLAIN_REASON, compiled
from siftune.curate.native.pointers import clear, copy, put_byte, put_word, word

if PLAIN_REASON is None:
    from siftune.curate.native.blake2b_simd import START, mix

__all__ = ["DIGEST", "LANES", "WORK", "hash_lanes"]

Ints: TypeAlias = npt.NDArray[np.int64]

DIGEST: Final = 32
"""Hex digits of a digest of 128 bits."""

LANES: Final = 8
"""Texts that are hashed in parallel."""

WORK: Final = 26 * LANES
"""64-bit integers of working memory: states, blocks, byte counts, last-block flags."""

_BLOCK: Final = 128  # bytes
_BLOCKS, _COUNT, _LAST = 8 * LANES, 24 * LANES, 25 * LANES  # offsets in the working memory
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)


def _hash_each(data: Any, ends: Ints, texts: int, work: Any, out: Any, places: Ints) -> None:
    """`hash_lanes` by `hashlib`."""
    for i in range(texts):
        text = ctypes.string_at(int(data + ends[i]), int(ends[i + 1] - ends[i]))
        digest = hashlib.blake2b(text, digest_size=DIGEST // 2).hexdigest().encode()
        ctypes.memmove(int(out + places[i]), digest, DIGEST)


@compiled(plain=_hash_each)
def hash_lanes(data: Any, ends: Ints, texts: int, work: Any, out: Any, places: Ints) -> None:
    """Write the 128-bit BLAKE2b digests of up to `LANES` texts that are adjacent in memory.

    Text ``i`` of the ``texts`` lies between the addresses ``data + ends[i]`` and
    ``data + ends[i + 1]``; its digest is written in hex to address ``out + places[i]``. ``work`` is
    the address of `WORK` integers.
    """
    for i in range(8):
        for lane in range(LANES):
            put_word(work, i * LANES + lane, START[i])
    start, left = 0, texts
    while left:
        for lane in range(texts):
            low, high = ends[lane] + start, ends[lane + 1]
            put_word(work, _COUNT + lane, start + min(high - low, _BLOCK))
            put_word(work, _LAST + lane, -1 if low + _BLOCK >= high else 0)
            _load(data + low, high - low, work + 8 * _BLOCKS + _BLOCK * lane)
        mix(work, work + 8 * _BLOCKS, work + 8 * _COUNT, work + 8 * _LAST)
        for lane in range(texts):
            size = ends[lane + 1] - ends[lane]
            if max((size - 1) // _BLOCK, 0) * _BLOCK == start:
                left -= 1
                _write(work, lane, out + places[lane])
        start += _BLOCK


@compiled(inline="always")
def _load(source: Any, left: Any, to: Any) -> None:
    """Copy the next block of a text, padded with zeros; nothing is ``left`` of a finished text."""
    if left >= _BLOCK:
        copy(to, source, _BLOCK)
    else:
        clear(to, _BLOCK)
        copy(to, source, max(left, 0))


@compiled()
def _write(state: int, lane: int, to: Any) -> None:
    for half in range(2):
        value = word(state, half * LANES + lane)
        for i in range(8):
            pair = (value >> (8 * i)) & 255
            put_byte(to, 16 * half + 2 * i, _HEX[pair >> 4])
            put_byte(to, 16 * half + 2 * i + 1, _HEX[pair & 15])
