"""Many bytes looked at at once: a bit for each, in an integer, for compiled loops."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from siftune.curate.native.jit import compiled
from siftune.curate.native.pointers import load

__all__ = ["WIDE", "beyond", "first", "last", "ones", "special", "upto", "within"]

WIDE: Final = 64
"""Bytes that `special` and `within` touch, whatever part of them is wanted."""

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_WIDE = ir.VectorType(_I8, WIDE)


@intrinsic
def _special(context: Any, base: Any, at: Any) -> Any:
    """Bit i: byte i from ``base + at`` on is a quote, a backslash or a control character."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = load(builder, builder.add(*args), _WIDE)
        quote = builder.icmp_unsigned("==", found, ir.Constant(_WIDE, [0x22] * WIDE))
        slash = builder.icmp_unsigned("==", found, ir.Constant(_WIDE, [0x5C] * WIDE))
        control = builder.icmp_unsigned("<", found, ir.Constant(_WIDE, [0x20] * WIDE))
        either = builder.or_(builder.or_(quote, slash), control)
        return builder.bitcast(either, _I64)

    return types.uint64(types.intp, types.int64), build


@intrinsic
def _beyond(context: Any, bits: Any, count: Any) -> Any:
    """The bits but for the lowest ``count``."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits, count = args
        ones = ir.Constant(_I64, -1)
        kept = builder.select(
            builder.icmp_unsigned("<", count, ir.Constant(_I64, 64)),
            builder.shl(ones, count),
            ir.Constant(_I64, 0),
        )
        return builder.and_(bits, kept)

    return types.uint64(types.uint64, types.int64), build


@intrinsic
def _first(context: Any, bits: Any) -> Any:
    """The number of the lowest bit that is set; 64 where none is."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), build


@intrinsic
def _last(context: Any, bits: Any) -> Any:
    """The number of the highest bit that is set; -1 where none is."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        above = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(_I64, 63), above)

    return types.int64(types.uint64), build


@intrinsic
def _ones(context: Any, bits: Any) -> Any:
    """How many bits are set."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), build


@intrinsic
def _within(context: Any, address: Any, fold: Any, low: Any, count: Any) -> Any:
    """Bit i: byte i, or-ed with ``fold``, is one of the ``count`` values from ``low`` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        fold, low, count = (_everywhere(builder, value) for value in args[1:])
        found = builder.sub(builder.or_(load(builder, args[0], _WIDE), fold), low)
        return builder.bitcast(builder.icmp_unsigned("<", found, count), _I64)

    return types.uint64(types.intp, types.int64, types.int64, types.int64), build


def _everywhere(builder: Any, value: Any) -> Any:
    """A vector of the low 8 bits of a value."""
    one = builder.insert_element(
        ir.Constant(_WIDE, ir.Undefined), builder.trunc(value, _I8), ir.Constant(_I32, 0)
    )
    places = ir.Constant(ir.VectorType(_I32, WIDE), [0] * WIDE)
    return builder.shuffle_vector(one, ir.Constant(_WIDE, ir.Undefined), places)


# The names that compiled code uses; numba declares them with one parameter too many.
special: Any = _special
beyond: Any = _beyond
first: Any = _first
last: Any = _last
ones: Any = _ones
within: Any = _within


@compiled(inline="always")
def upto(count: int | np.int64) -> Any:
    """The lowest ``count`` bits."""
    return ~np.uint64(0) if count >= WIDE else (np.uint64(1) << np.uint64(count)) - np.uint64(1)
