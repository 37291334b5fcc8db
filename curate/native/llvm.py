"""LLVM code of operations that numba lacks: bytes at addresses, prefetch, SIMD masks.

Each function has its plain Python form, with the documentation, under the same name in
`native.pointers` or `native.simd`. numba calls a function here once per signature to build code.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["load", "store"]

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_WIDTH = 64
_BLOCK = ir.VectorType(_I8, _WIDTH)


@intrinsic
def byte(context: Any, base: Any, index: Any) -> Any:
    """Code of `pointers.byte`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(load(builder, builder.add(*args), _I8), _I64)

    return types.int64(types.intp, types.int64), build


@intrinsic
def word(context: Any, base: Any, index: Any) -> Any:
    """Code of `pointers.word`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, index = args
        return load(builder, builder.add(base, builder.shl(index, ir.Constant(_I64, 3))), _I64)

    return types.int64(types.intp, types.int64), build


@intrinsic
def put_byte(context: Any, base: Any, index: Any, value: Any) -> Any:
    """Code of `pointers.put_byte`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store(builder, builder.add(args[0], args[1]), builder.trunc(args[2], _I8))
        return context.get_dummy_value()

    return types.void(types.intp, types.int64, types.int64), build


@intrinsic
def put_word(context: Any, base: Any, index: Any, value: Any) -> Any:
    """Code of `pointers.put_word`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, index, value = args
        store(builder, builder.add(base, builder.shl(index, ir.Constant(_I64, 3))), value)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64, types.int64), build


@intrinsic
def put_length(context: Any, address: Any, value: Any) -> Any:
    """Code of `pointers.put_length`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store(builder, args[0], builder.trunc(args[1], _I32))
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), build


@intrinsic
def copy(context: Any, to: Any, source: Any, count: Any) -> Any:
    """Code of `pointers.copy`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = [builder.inttoptr(place, _I8.as_pointer()) for place in args[:2]]
        cgutils.raw_memcpy(builder, pointers[0], pointers[1], args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.int64), build


@intrinsic
def clear(context: Any, to: Any, count: Any) -> Any:
    """Code of `pointers.clear`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], _I8.as_pointer())
        cgutils.memset(builder, place, args[1], 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), build


@intrinsic
def copy_block(context: Any, to: Any, source: Any) -> Any:
    """Code of `pointers.copy_block`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store(builder, args[0], load(builder, args[1], _BLOCK))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), build


@intrinsic
def prefetch(context: Any, address: Any) -> Any:
    """Code of `pointers.prefetch`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        place = builder.inttoptr(args[0], _I8.as_pointer())
        builder.call(function, [place, *(ir.Constant(_I32, n) for n in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(types.intp), build


@intrinsic
def special(context: Any, base: Any, index: Any) -> Any:
    """Code of `simd.special`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = load(builder, builder.add(*args), _BLOCK)
        quote = builder.icmp_unsigned("==", found, ir.Constant(_BLOCK, [0x22] * _WIDTH))
        slash = builder.icmp_unsigned("==", found, ir.Constant(_BLOCK, [0x5C] * _WIDTH))
        control = builder.icmp_unsigned("<", found, ir.Constant(_BLOCK, [0x20] * _WIDTH))
        either = builder.or_(builder.or_(quote, slash), control)
        return builder.bitcast(either, _I64)

    return types.uint64(types.intp, types.int64), build


@intrinsic
def drop_bits(context: Any, mask: Any, count: Any) -> Any:
    """Code of `simd.drop_bits`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask, count = args
        ones = ir.Constant(_I64, -1)
        kept = builder.select(
            builder.icmp_unsigned("<", count, ir.Constant(_I64, 64)),
            builder.shl(ones, count),
            ir.Constant(_I64, 0),
        )
        return builder.and_(mask, kept)

    return types.uint64(types.uint64, types.int64), build


@intrinsic
def first_bit(context: Any, mask: Any) -> Any:
    """Code of `simd.first_bit`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), build


@intrinsic
def last_bit(context: Any, mask: Any) -> Any:
    """Code of `simd.last_bit`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        above = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(_I64, 63), above)

    return types.int64(types.uint64), build


@intrinsic
def bit_count(context: Any, mask: Any) -> Any:
    """Code of `simd.bit_count`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), build


@intrinsic
def in_range(context: Any, address: Any, fold: Any, low: Any, count: Any) -> Any:
    """Code of `simd.in_range`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        fold, low, count = (_broadcast(builder, value) for value in args[1:])
        found = builder.sub(builder.or_(load(builder, args[0], _BLOCK), fold), low)
        return builder.bitcast(builder.icmp_unsigned("<", found, count), _I64)

    return types.uint64(types.intp, types.int64, types.int64, types.int64), build


def _broadcast(builder: Any, value: Any) -> Any:
    """Build a vector with the low 8 bits of a value in each of the 64 places."""
    one = builder.insert_element(
        ir.Constant(_BLOCK, ir.Undefined), builder.trunc(value, _I8), ir.Constant(_I32, 0)
    )
    places = ir.Constant(ir.VectorType(_I32, _WIDTH), [0] * _WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_BLOCK, ir.Undefined), places)


def load(builder: Any, address: Any, kind: Any) -> Any:
    """Build a read of a value at an address of any alignment."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def store(builder: Any, address: Any, value: Any) -> None:
    """Build a write of a value to an address of any alignment."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)
