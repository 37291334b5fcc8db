"""What compiled loops lack in Python: 32 bytes at a time, and eight BLAKE2b states side by side."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "LANES",
    "WIDTH",
    "beyond",
    "byte",
    "clear",
    "copy",
    "copy_block",
    "first",
    "mix",
    "put_byte",
    "put_length",
    "put_word",
    "slashes",
    "special",
    "word",
]

WIDTH: Final = 32
"""Bytes that `special` and `copy_block` touch, whatever part of them is wanted."""
LANES: Final = 8
"""Texts that `mix` hashes at a time."""

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES = ir.VectorType(_I8, WIDTH)
_WORDS = ir.VectorType(_I64, LANES)
_PLACES = ir.VectorType(_I32, LANES)

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
_IV = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


@intrinsic
def _byte(context: Any, base: Any, at: Any) -> Any:
    """The byte at the address ``base + at``; cheaper than to pass an array from call to call."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(_load(builder, builder.add(*args), _I8), _I64)

    return types.int64(types.intp, types.int64), build


@intrinsic
def _word(context: Any, base: Any, at: Any) -> Any:
    """Number ``at`` of the 64-bit integers that lie from the address ``base`` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, at = args
        return _load(builder, builder.add(base, builder.shl(at, ir.Constant(_I64, 3))), _I64)

    return types.int64(types.intp, types.int64), build


@intrinsic
def _put_byte(context: Any, base: Any, at: Any, value: Any) -> Any:
    """Write the low 8 bits of ``value`` at the address ``base + at``."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _store(builder, builder.add(args[0], args[1]), builder.trunc(args[2], _I8))
        return context.get_dummy_value()

    return types.void(types.intp, types.int64, types.int64), build


@intrinsic
def _put_word(context: Any, base: Any, at: Any, value: Any) -> Any:
    """Write number ``at`` of the 64-bit integers that lie from the address ``base`` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, at, value = args
        _store(builder, builder.add(base, builder.shl(at, ir.Constant(_I64, 3))), value)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64, types.int64), build


@intrinsic
def _put_length(context: Any, to: Any, value: Any) -> Any:
    """Write the low 32 bits of ``value``, the lowest first."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _store(builder, args[0], builder.trunc(args[1], _I32))
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), build


@intrinsic
def _special(context: Any, base: Any, at: Any) -> Any:
    """Bit i: byte i from ``base + at`` on is a quote, a backslash or a control character."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = _load(builder, builder.add(*args), _BYTES)
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
        found = _load(builder, args[0], _BYTES)
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
        _store(builder, args[0], _load(builder, args[1], _BYTES))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), build


@intrinsic
def _mix(context: Any, state: Any, blocks: Any, count: Any, last: Any) -> Any:
    """One step of BLAKE2b (RFC 7693, section 3.2) on `LANES` states at once.

    The addresses are those of uint64 arrays: ``state`` (8, LANES), ``blocks`` (LANES, 16), the
    bytes so far ``count`` (LANES,) and ``last`` (LANES,), all ones where the block ends a text.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        state, blocks, count, last = args
        before = [_load(builder, _at(builder, state, i), _WORDS) for i in range(8)]
        halves = [_load(builder, _at(builder, blocks, i), _WORDS) for i in range(2 * LANES)]
        words = _transposed(builder, halves[::2]) + _transposed(builder, halves[1::2])
        v = before + [ir.Constant(_WORDS, [word] * LANES) for word in _IV]
        v[12] = builder.xor(v[12], _load(builder, count, _WORDS))
        v[14] = builder.xor(v[14], _load(builder, last, _WORDS))
        for turn in range(12):
            order = _SIGMA[turn % 10]
            for at, places in enumerate(_COLUMNS + _DIAGONALS):
                _quarter(builder, v, places, words[order[2 * at]], words[order[2 * at + 1]])
        for i in range(8):
            after = builder.xor(before[i], builder.xor(v[i], v[i + 8]))
            _store(builder, _at(builder, state, i), after)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), build


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Vector j of the result has element j of each row: squares of 2, 4 and 8 are turned over."""
    for size in (1, 2, 4):
        turned = list(rows)
        for low in (i for i in range(LANES) if not i & size):
            pair = rows[low], rows[low + size]
            for half in (0, size):
                taken = [(j & ~size | half) + LANES * bool(j & size) for j in range(LANES)]
                turned[low + half] = builder.shuffle_vector(*pair, ir.Constant(_PLACES, taken))
        rows = turned
    return rows


def _quarter(builder: Any, v: list[Any], places: tuple[int, ...], x: Any, y: Any) -> None:
    a, b, c, d = places
    for word, (first_turn, second_turn) in ((x, (32, 24)), (y, (16, 63))):
        v[a] = builder.add(builder.add(v[a], v[b]), word)
        v[d] = _rotated(builder, builder.xor(v[d], v[a]), first_turn)
        v[c] = builder.add(v[c], v[d])
        v[b] = _rotated(builder, builder.xor(v[b], v[c]), second_turn)


def _rotated(builder: Any, value: Any, by: int) -> Any:
    right = builder.lshr(value, ir.Constant(_WORDS, [by] * LANES))
    return builder.or_(right, builder.shl(value, ir.Constant(_WORDS, [64 - by] * LANES)))


def _at(builder: Any, address: Any, row: int) -> Any:
    return builder.add(address, ir.Constant(_I64, row * 8 * LANES))


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def _store(builder: Any, address: Any, value: Any) -> None:
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
mix: Any = _mix
