"""Exact near neighbours by cosine: blocked products find candidates, float64 decides.

A product in float32 or bfloat16 finds every pair that may reach the threshold, by a proven bound on
its rounding error; the cosines of these are summed again in float64 in a fixed order. So the result
does not depend on the type, the blocks, the threads or the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.core.errors import UsageError
from siftune.curate.dedup.cover_rule import Cover
from siftune.curate.models.precision import multiplies_bf16
from siftune.curate.native.gemm import Columns, hits
from siftune.curate.native.jit import compiled

__all__ = [
    "Allowed",
    "Dtype",
    "Pairs",
    "Products",
    "cover_near",
    "cover_vectors",
    "pairs_above",
    "products",
    "some_pairs_above",
]

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16"]
Vectors: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Doubles: TypeAlias = npt.NDArray[np.float64]
Pairs: TypeAlias = tuple[Ints, Ints]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_BLOCK = 1024  # rows compared with all before them in one step
_TILE = 4096  # rows of these: the product of a tile fits in the cache
_ON_GPU = 65_536  # each product on a GPU has a fixed cost


class Products(Protocol):
    """Finds the entries of ``left @ right.T`` that may reach a threshold."""

    @property
    def tile(self) -> int:
        """Best number of rows on the right of one product."""

    def convert(self, vectors: Vectors) -> Any:
        """A copy of the vectors in the type and on the device of the products."""

    def candidates(self, left: Any, right: Any, threshold: float) -> Pairs:
        """Row and column of each entry that may reach ``threshold``; by row, then column."""


@dataclass(frozen=True)
class _Single:
    """float32 on the CPU."""

    @property
    def tile(self) -> int:
        return _TILE

    def convert(self, vectors: Vectors) -> Vectors:
        return vectors.copy()

    def candidates(self, left: Vectors, right: Vectors, threshold: float) -> Pairs:
        return Columns(right).above(left, threshold - _single_error(left.shape[1]))


class _Bfloat16:
    """bfloat16 by torch on any device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._memory: Any = None

    @property
    def tile(self) -> int:
        return _TILE if self._device == "cpu" else _ON_GPU

    def convert(self, vectors: Vectors) -> Any:
        import torch

        owned = vectors if vectors.flags.writeable else vectors.copy()  # else torch warns
        return torch.from_numpy(owned).to(device=self._device, dtype=torch.bfloat16)

    def candidates(self, left: Any, right: Any, threshold: float) -> Pairs:
        import torch

        from siftune.curate.vectors.full_precision import full_precision

        least = threshold - _single_error(left.shape[1]) - 2**-7
        found = self._buffer(len(left), len(right))
        with full_precision():
            torch.mm(left, right.T, out=found)
        if self._device != "cpu":
            row, column = torch.nonzero(found >= least, as_tuple=True)
            return row.cpu().numpy(), column.cpu().numpy()
        # Read as integers, bfloat16 numbers from 0 up keep their order and others are below.
        bound = torch.tensor(max(least, 0), dtype=torch.bfloat16).view(torch.int16)
        return hits(found.view(torch.int16).numpy(), np.int16(bound.item()))

    def _buffer(self, rows: int, columns: int) -> Any:
        """Memory for products, reused: allocating it costs as much as filling it."""
        import torch

        if self._memory is None or self._memory.numel() < rows * columns:
            self._memory = torch.empty(rows * columns, dtype=torch.bfloat16, device=self._device)
        return self._memory[: rows * columns].view(rows, columns)


def _single_error(size: int) -> float:
    """Largest rounding error of a product of unit vectors in float32: 2 n u."""
    return size * 2.0**-23


def products(dtype: Dtype, rows: int, small: bool = False) -> Products:
    """The engine for ``dtype``; ``auto`` is the fastest one available. The results are equal.

    ``auto`` is a GPU if torch finds one, bfloat16 if the processor has instructions for it, else
    float32; also float32 for few rows, where loading torch takes longer, and for many ``small``
    products, for which torch is slower.
    """
    if dtype == "float32" or (dtype == "auto" and rows < 20_000):
        return _Single()
    try:
        import torch
    except ImportError:
        if dtype == "bfloat16":
            raise UsageError("dtype bfloat16 needs torch: pip install 'siftune[embed]'") from None
        return _Single()
    if torch.cuda.is_available():
        return _Bfloat16("cuda")
    fast = multiplies_bf16("cpu") and not small
    return _Bfloat16("cpu") if fast or dtype == "bfloat16" else _Single()


def pairs_above(
    units: Vectors, threshold: float, engine: Products, rows: Ints | None = None
) -> tuple[Ints, Ints, Doubles]:
    """All pairs ``i > j`` of unit vectors with a cosine of at least ``threshold``: i, j, cosine.

    With ``rows``, ascending, only the pairs of which ``i`` is one of them.
    """
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    found += some_pairs_above(units, threshold, engine, engine.convert(units), rows)
    left, right, cosines = zip(*found, strict=True)
    return np.concatenate(left), np.concatenate(right), np.concatenate(cosines)


def some_pairs_above(
    units: Vectors, threshold: float, engine: Products, converted: Any, rows: Ints | None = None
) -> Iterator[tuple[Ints, Ints, Doubles]]:
    """`pairs_above` in batches, one per product. ``converted`` are the units as `convert` gives."""
    squares = _squares(units)
    wanted = np.arange(len(units)) if rows is None else rows
    for start in range(0, len(wanted), _BLOCK):
        block = wanted[start : start + _BLOCK]
        for row, j in _tiles(engine, converted[block], converted[: block.max() + 1], threshold):
            i = block[row]
            i, j = i[j < i], j[j < i]
            cosine = _cosines(units, squares, i, j)
            above = cosine >= threshold
            yield i[above], j[above], cosine[above]


def cover_vectors(
    units: Vectors,
    threshold: float,
    engine: Products,
    fixed: int = 0,
    allowed: Allowed | None = None,
) -> Cover:
    """The cover rule (`dedup.cover_rule`) on unit vectors given best first.

    Blocks of rows are compared with the kept rows before them and with themselves; the pairs are
    never listed as a whole. The first ``fixed`` rows are always kept. Pairs that are not
    ``allowed`` are no near-duplicates.
    """
    converted = engine.convert(units)  # the kept rows are moved to its front
    kept, count = np.empty(len(units), np.int64), 0

    def near(start: int, stop: int, survivor: Ints) -> Iterator[Pairs]:
        nonlocal count
        block = converted[start:stop]
        for row, column in _tiles(engine, block, converted[:count], threshold):
            yield row + start, kept[column]
        row, column = engine.candidates(block, block, threshold)
        yield row[column < row] + start, column[column < row] + start
        stay = np.flatnonzero(survivor[start:stop] < 0)
        converted[count : count + len(stay)] = block[stay]
        kept[count : count + len(stay)] = stay + start
        count += len(stay)

    return cover_near(units, threshold, near, _BLOCK, fixed, allowed)


Near: TypeAlias = Callable[[int, int, Ints], Iterator[Pairs]]
"""Pairs (row of the block, better row) that may be near; those within the block last and by row."""
Allowed: TypeAlias = Callable[[Ints, Ints], npt.NDArray[np.bool_]]
"""Which pairs of rows, given by position, may be near-duplicates."""


def cover_near(
    units: Vectors,
    threshold: float,
    near: Near,
    block: int,
    fixed: int = 0,
    allowed: Allowed | None = None,
) -> Cover:
    """The cover rule on the pairs that ``near`` proposes for each block of rows, best first."""
    squares = _squares(units)
    survivor, guarded = np.full((2, len(units)), -1, np.int64)
    similarity, guarded_similarity = np.full((2, len(units)), np.nan)
    for start in range(0, len(units), block):
        for row, other in near(start, min(start + block, len(units)), survivor):
            refused = row[:0], row[:0]
            if allowed is not None:
                (row, other), refused = _split(units, squares, row, other, threshold, allowed)
            given = (units, squares, threshold, fixed)
            _update_survivors(*given, row, other, survivor, survivor, similarity)
            _update_survivors(*given, *refused, survivor, guarded, guarded_similarity)
    guarded[survivor >= 0] = -1
    return Cover(survivor, similarity, guarded, guarded_similarity)


def _split(
    units: Vectors, squares: Doubles, row: Ints, other: Ints, threshold: float, allowed: Allowed
) -> tuple[Pairs, Pairs]:
    """The pairs at or above the threshold that are allowed, and those that are not."""
    above = _cosines(units, squares, row, other) >= threshold
    row, other = row[above], other[above]
    passes = allowed(row, other)
    return (row[passes], other[passes]), (row[~passes], other[~passes])


def _tiles(engine: Products, block: Any, converted: Any, threshold: float) -> Iterator[Pairs]:
    for start in range(0, len(converted), engine.tile):
        row, column = engine.candidates(block, converted[start : start + engine.tile], threshold)
        if len(row):
            yield row, column + start


@compiled()
def _dot(x: Vectors, y: Vectors) -> float:
    """Dot product, summed in float64 from first to last: equal on any machine.

    (On the grid of `vectors.unit_vectors` it is exact.)
    """
    total = 0.0
    for i in range(len(x)):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@compiled()
def _squares(vectors: Vectors) -> Doubles:
    found = np.empty(len(vectors))
    for i in range(len(vectors)):
        found[i] = _dot(vectors[i], vectors[i])
    return found


@compiled()
def _cosines(units: Vectors, squares: Doubles, left: Ints, right: Ints) -> Doubles:
    found = np.empty(len(left))
    for at in range(len(left)):
        i, j = left[at], right[at]
        found[at] = _dot(units[i], units[j]) / np.sqrt(squares[i] * squares[j])
    return found


@compiled()
def _update_survivors(
    units: Vectors,
    squares: Doubles,
    threshold: float,
    fixed: int,
    left: Ints,
    right: Ints,
    dropped: Ints,
    survivor: Ints,
    similarity: Doubles,
) -> None:
    """Update the most similar kept right row of each left row at or above the threshold.

    ``dropped`` is not -1 for the rows that are not kept.
    """
    for at in range(len(left)):
        i, j = left[at], right[at]
        if i < fixed or dropped[j] >= 0:
            continue
        cosine = _dot(units[i], units[j]) / np.sqrt(squares[i] * squares[j])
        nearer = survivor[i] < 0 or cosine > similarity[i]
        if cosine >= threshold and (nearer or (cosine == similarity[i] and j < survivor[i])):
            survivor[i], similarity[i] = j, cosine
