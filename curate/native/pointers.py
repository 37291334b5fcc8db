"""What compiled loops lack in Python: bytes and words at addresses."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "byte",
    "clear",
    "copy",
    "copy_block",
    "fetch",
    "load",
    "put_byte",
    "put_length",
    "put_word",
    "store",
    "word",
]

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BLOCK = ir.VectorType(_I8, 64)


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
    """Copy 64 bytes."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store(builder, args[0], load(builder, args[1], _BLOCK))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), build


@intrinsic
def _fetch(context: Any, address: Any) -> Any:
    """Ask for the cache line at an address, which is read soon; any address is allowed."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        place = builder.inttoptr(args[0], _I8.as_pointer())
        builder.call(function, [place, *(ir.Constant(_I32, n) for n in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(types.intp), build


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
copy: Any = _copy
clear: Any = _clear
copy_block: Any = _copy_block
fetch: Any = _fetch
