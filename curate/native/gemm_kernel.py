"""Matrix product kernel for AVX-512: an LLVM tile of sums held in registers, and loops over it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from siftune.curate.native.jit import compiled

__all__ = ["ROWS", "entries_above", "is_supported", "multiply", "pack"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

ROWS: Final = 6  # of a tile: with 4 vectors each, 24 sums stay in 32 registers
VECTORS: Final = 4
BYTES: Final = 64  # of a vector


@cache
def is_supported() -> bool:
    """Whether the processor has AVX-512."""
    return bool(binding.get_host_cpu_features().get("avx512f", False))


def _signature(
    _: Any, left: Any, row: Any, panel: Any, out: Any, to: Any, column: Any
) -> tuple[Any, Any]:
    """Write the products of `ROWS` rows of ``left`` from ``row`` on with the columns of a panel.

    They are written to ``out[to:, column:]``. After the last row of ``left`` that row is repeated.
    Each sum runs from the first to the last dimension, with one rounding a step.
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
            entry = _broadcast(builder, builder.load(builder.gep(pointer, [loop.index])), vector)
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
    """Pointers to the rows of a tile, and the entries of a row."""
    height, size = cgutils.unpack_tuple(builder, left.shape)
    last, found = builder.sub(height, height.type(1)), []
    for r in range(ROWS):
        at = builder.add(row, row.type(r))
        at = builder.select(builder.icmp_signed("<", at, last), at, last)
        found.append(builder.gep(left.data, [builder.mul(at, size)]))
    return found, size


def _vector(builder: Any, columns: Any, at: Any) -> Any:
    return builder.load(builder.gep(columns, [at]), align=BYTES)


def _broadcast(builder: Any, entry: Any, vector: Any) -> Any:
    """Build a vector with the entry in each place."""
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, entry, ir.IntType(32)(0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one, nothing, places)


tile: Any = intrinsic(_signature)


@compiled()
def pack(vectors: np.ndarray) -> np.ndarray:  # pragma: no cover - compiled
    """Panels (p, d, columns) as `tile` reads them, padded with zero vectors."""
    width, size = VECTORS * BYTES // vectors.itemsize, vectors.shape[1]
    count = (len(vectors) + width - 1) // width
    memory = np.empty(count * size * width + BYTES, vectors.dtype)
    # Aligned, so that no vector crosses a cache line.
    offset = (-memory.ctypes.data % BYTES) // memory.itemsize
    panels = memory[offset : offset + count * size * width].reshape(count, size, width)
    for p in range(count):
        some, panel = vectors[p * width : (p + 1) * width], panels[p]
        for k in range(size):
            for j in range(len(some)):
                panel[k, j] = some[j, k]
            for j in range(len(some), width):
                panel[k, j] = 0
    return panels


@compiled()
def multiply(
    left: np.ndarray, panels: np.ndarray, out: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Write ``left @ vectors.T`` to ``out`` (n, m), of vectors laid out by `pack`."""
    width = panels.shape[2]
    edge = np.empty((ROWS, width), left.dtype)
    for p in range(len(panels)):
        start = p * width
        some = min(width, out.shape[1] - start)
        for i in range(0, len(left), ROWS):
            if some == width and i + ROWS <= len(left):
                tile(left, i, panels[p], out, i, start)
                continue
            tile(left, i, panels[p], edge, 0, 0)
            for r in range(min(ROWS, len(left) - i)):
                for j in range(some):
                    out[i + r, start + j] = edge[r, j]


@compiled()
def entries_above(
    left: np.ndarray, panels: np.ndarray, count: _Int, bound: Any
) -> tuple[Ints, Ints]:  # pragma: no cover - compiled
    """Row and column of the products of at least ``bound``, tile by tile."""
    width = panels.shape[2]
    products = np.empty((ROWS, width), left.dtype)
    row, column = np.empty(1024, np.int64), np.empty(1024, np.int64)
    end = 0
    for p in range(len(panels)):
        some = min(width, count - p * width)
        for i in range(0, len(left), ROWS):
            tile(left, i, panels[p], products, 0, 0)
            hits = 0
            for entry in products.flat:
                hits += entry >= bound
            if hits == 0:
                continue
            if end + products.size > len(row):
                row = np.concatenate((row, np.empty(len(row) + products.size, np.int64)))
                column = np.concatenate((column, np.empty(len(column) + products.size, np.int64)))
            for r in range(min(ROWS, len(left) - i)):
                for j in range(some):
                    row[end], column[end] = i + r, p * width + j
                    end += products[r, j] >= bound
    return row[:end], column[:end]
