"""The innermost part of a matrix product, as LLVM code: a tile of sums that stays in registers."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["BYTES", "ROWS", "VECTORS", "tile"]

ROWS: Final = 6  # of a tile: with 4 vectors each, 24 sums stay in 32 registers
VECTORS: Final = 4
BYTES: Final = 64  # of a vector


def _signature(
    _: Any, left: Any, row: Any, panel: Any, out: Any, to: Any, column: Any
) -> tuple[Any, Any]:
    """Write the products of `ROWS` rows of ``left`` from ``row`` on with a panel's columns.

    They go to ``out[to:, column:]``. Behind the last row of ``left`` it stands for those that are
    missing. Each sum is from the first to the last dimension, one rounding a step.
    """
    return types.void(left, row, panel, out, to, column), _code


def _code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """The LLVM code of `tile`."""
    kind = signature.args[0].dtype
    vector = ir.VectorType(context.get_value_type(kind), BYTES * 8 // kind.bitwidth)
    left, panel, out = (
        context.make_array(signature.args[i])(context, builder, args[i]) for i in (0, 2, 3)
    )
    rows, size = _row_pointers(builder, left, args[1])
    sums = [
        [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(VECTORS)]
        for _ in range(ROWS)
    ]
    name = f"llvm.fma.v{vector.count}f{kind.bitwidth}"
    fma = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), name
    )
    columns = builder.bitcast(panel.data, vector.as_pointer())
    with cgutils.for_range(builder, size) as loop:
        first = builder.mul(loop.index, loop.index.type(VECTORS))
        held = [
            _vector(builder, columns, builder.add(first, first.type(v))) for v in range(VECTORS)
        ]
        for pointer, own in zip(rows, sums, strict=True):
            entry = _everywhere(builder, builder.load(builder.gep(pointer, [loop.index])), vector)
            for total, some in zip(own, held, strict=True):
                builder.store(builder.call(fma, [entry, some, builder.load(total)]), total)
    width = cgutils.unpack_tuple(builder, out.shape)[1]
    for r, own in enumerate(sums):
        line = builder.mul(builder.add(args[4], args[4].type(r)), width)
        start = builder.gep(out.data, [builder.add(line, args[5])])
        start = builder.bitcast(start, vector.as_pointer())
        for v, total in enumerate(own):
            to = builder.gep(start, [ir.IntType(64)(v)])
            builder.store(builder.load(total), to, align=kind.bitwidth // 8)
    return context.get_dummy_value()


def _row_pointers(builder: Any, left: Any, row: Any) -> tuple[list[Any], Any]:
    """Where the rows of a tile begin, and how many entries they have."""
    height, size = cgutils.unpack_tuple(builder, left.shape)
    last, found = builder.sub(height, height.type(1)), []
    for r in range(ROWS):
        at = builder.add(row, row.type(r))
        at = builder.select(builder.icmp_signed("<", at, last), at, last)
        found.append(builder.gep(left.data, [builder.mul(at, size)]))
    return found, size


def _vector(builder: Any, columns: Any, at: Any) -> Any:
    return builder.load(builder.gep(columns, [at]), align=BYTES)


def _everywhere(builder: Any, entry: Any, vector: Any) -> Any:
    """A vector that has the entry in each place."""
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, entry, ir.IntType(32)(0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one, nothing, places)


tile: Any = intrinsic(_signature)
