"""LLVM code of the BLAKE2b compression function on eight texts in parallel."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from siftune.curate.native.llvm import load, store

__all__ = ["START", "mix"]

_LANES: Final = 8  # `blake2b.LANES`
_IV: Final = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)
START: Final = np.array([_IV[0] ^ 0x01010000 ^ 16, *_IV[1:]], np.uint64).view(np.int64)
"""Initial state of an unkeyed hash with a digest of 16 bytes (RFC 7693, section 2.5)."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_WORDS = ir.VectorType(_I64, _LANES)
_PLACES = ir.VectorType(_I32, _LANES)

_SIGMA = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


@intrinsic
def _mix(context: Any, state: Any, blocks: Any, count: Any, last: Any) -> Any:
    """The BLAKE2b compression function (RFC 7693, section 3.2) on eight states in parallel.

    The arguments are addresses of uint64 arrays: ``state`` (8, 8), ``blocks`` (8, 16), ``count``
    (8,) bytes so far, ``last`` (8,) all ones where the block is the last one of its text.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        state, blocks, count, last = args
        before = [load(builder, _address(builder, state, i), _WORDS) for i in range(8)]
        halves = [load(builder, _address(builder, blocks, i), _WORDS) for i in range(2 * _LANES)]
        words = _transpose(builder, halves[::2]) + _transpose(builder, halves[1::2])
        v = before + [ir.Constant(_WORDS, [word] * _LANES) for word in _IV]
        v[12] = builder.xor(v[12], load(builder, count, _WORDS))
        v[14] = builder.xor(v[14], load(builder, last, _WORDS))
        for turn in range(12):
            order = _SIGMA[turn % 10]
            for step, places in enumerate(_COLUMNS + _DIAGONALS):
                _quarter(builder, v, places, words[order[2 * step]], words[order[2 * step + 1]])
        for i in range(8):
            after = builder.xor(before[i], builder.xor(v[i], v[i + 8]))
            store(builder, _address(builder, state, i), after)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), build


def _transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose 8 vectors of 8: squares of 2, 4 and 8 in turn."""
    for size in (1, 2, 4):
        swapped = list(rows)
        for low in (i for i in range(_LANES) if not i & size):
            pair = rows[low], rows[low + size]
            for half in (0, size):
                taken = [(j & ~size | half) + _LANES * bool(j & size) for j in range(_LANES)]
                swapped[low + half] = builder.shuffle_vector(*pair, ir.Constant(_PLACES, taken))
        rows = swapped
    return rows


def _quarter(builder: Any, v: list[Any], places: tuple[int, ...], x: Any, y: Any) -> None:
    a, b, c, d = places
    for word, (first_turn, second_turn) in ((x, (32, 24)), (y, (16, 63))):
        v[a] = builder.add(builder.add(v[a], v[b]), word)
        v[d] = _rotate_right(builder, builder.xor(v[d], v[a]), first_turn)
        v[c] = builder.add(v[c], v[d])
        v[b] = _rotate_right(builder, builder.xor(v[b], v[c]), second_turn)


def _rotate_right(builder: Any, value: Any, by: int) -> Any:
    right = builder.lshr(value, ir.Constant(_WORDS, [by] * _LANES))
    return builder.or_(right, builder.shl(value, ir.Constant(_WORDS, [64 - by] * _LANES)))


def _address(builder: Any, address: Any, row: int) -> Any:
    return builder.add(address, ir.Constant(_I64, row * 8 * _LANES))


mix: Any = _mix  # numba declares it with one parameter too many
