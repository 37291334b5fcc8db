"""What compiled loops lack in Python: bytes and words at addresses, and 32 bytes at a time."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "WIDTH",
    "beyond",
    "byte",
    "clear",
    "copy",
    "copy_block",
    "first",
    "load",
    "put_byte",
    "put_length",
    "put_word",
    "slashes",
    "special",
    "store",
    "word",
]

WIDTH: Final = 32
"""Bytes that `special`, `slashes` and `copy_block` touch, whatever part of them is wanted."""

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES = ir.VectorType(_I8, WIDTH)


@intrinsic
def _byte(context: Any, base: Any, at: Any) -> Any:
    """The byte at the address ``base + at``; cheaper than to pass an array from call to call."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(load(builder, builder.add(*args), _I8), _I64)

    return types.int64(types.intp, types.int64), build


@intrinsic
def _word(context: Any, base: Any, at: Any) -> Any:
    """Number ``at`` of the 64-bit integers that lie from the address ``base`` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, at = args
        return load(builder, builder.add(base, builder.shl(at, ir.Constant(_I64, 3))), _I64)

    return types.int64(types.intp, types.int64), build


@intrinsic
def _put_byte(context: Any, base: Any, at: Any, value: Any) -> Any:
    """Write the low 8 bits of ``value`` at the address ``base + at``."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store(builder, builder.add(args[0], args[1]), builder.trunc(args[2], _I8))
        return context.get_dummy_value()

    return types.void(types.intp, types.int64, types.int64), build


@intrinsic
def _put_word(context: Any, base: Any, at: Any, value: Any) -> Any:
    """Write number ``at`` of the 64-bit integers that lie from the address ``base`` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, at, value = args
        store(builder, builder.add(base, builder.shl(at, ir.Constant(_I64, 3))), value)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64, types.int64), build


@intrinsic
def _put_length(context: Any, to: Any, value: Any) -> Any:
    """Write the low 32 bits of ``value``, the lowest first."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store(builder, args[0], builder.trunc(args[1], _I32))
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), build


@intrinsic
def _special(context: Any, base: Any, at: Any) -> Any:
    """Bit i: byte i from ``base + at`` on is a quote, a backslash or a control character."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = load(builder, builder.add(*args), _BYTES)
        quote = builder.icmp_unsigned("==", found, ir.Constant(_BYTES, [0x22] * WIDTH))
        slash = builder.icmp_unsigned("==", found, ir.Constant(_BYTES, [0x5C] * WIDTH))
        control = builder.icmp_unsigned("<", found, ir.Constant(_BYTES, [0x20] * WIDTH))
        either = builder.or_(builder.or_(quote, slash), control)
        return builder.zext(builder.bitcast(either, ir.IntType(WIDTH)), _I64)

    return types.uint64(types.intp, types.int64), build


@intrinsic
def _slashes(context: Any, address: Any) -> Any:
    """Bit i: byte i from the address on is a backslash."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = load(builder, args[0], _BYTES)
        slash = builder.icmp_unsigned("==", found, ir.Constant(_BYTES, [0x5C] * WIDTH))
        bits = builder.bitcast(slash, ir.IntType(WIDTH))
        return builder.zext(bits, _I64)

    return types.uint64(types.intp), build


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
def _copy(context: Any, to: Any, begin: Any, count: Any) -> Any:
    """Copy ``count`` bytes between places that do not overlap."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = [builder.inttoptr(place, _I8.as_pointer()) for place in args[:2]]
        cgutils.raw_memcpy(builder, pointers[0], pointers[1], args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.int64), build


@intrinsic
def _clear(context: Any, to: Any, count: Any) -> Any:
    """Write ``count`` zero bytes."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], _I8.as_pointer())
        cgutils.memset(builder, place, args[1], 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), build


@intrinsic
def _copy_block(context: Any, to: Any, begin: Any) -> Any:
    """Copy `WIDTH` bytes."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store(builder, args[0], load(builder, args[1], _BYTES))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), build


def load(builder: Any, address: Any, kind: Any) -> Any:
    """Build a read of a value at an address, however it is aligned."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def store(builder: Any, address: Any, value: Any) -> None:
    """Build a write of a value to an address."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


# The names that compiled code uses; numba declares them with one parameter too many.
byte: Any = _byte
word: Any = _word
put_byte: Any = _put_byte
put_word: Any = _put_word
put_length: Any = _put_length
special: Any = _special
slashes: Any = _slashes
beyond: Any = _beyond
first: Any = _first
copy: Any = _copy
clear: Any = _clear
copy_block: Any = _copy_block
