"""Near neighbours by cosine, exact: blocked matrix products propose, double precision decides.

A product in single precision or bfloat16 finds every pair that can be at or above the threshold,
by a proven bound on its rounding; the cosine of those is summed again in double precision, in one
fixed order. So what is found does not depend on the type, the blocking, the threads or the device.
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

_BLOCK = 1024  # rows held against all before them in one step
_TILE = 4096  # of those before: the product of a tile stays in the cache
_ON_GPU = 65_536  # there each product is waited for


class Products(Protocol):
    """Finds the entries of ``left @ right.T`` that may be at or above a bound."""

    @property
    def tile(self) -> int:
        """Rows on the right that are best multiplied at a time."""

    def hold(self, vectors: Vectors) -> Any:
        """A copy of the vectors in the type and place they are multiplied in."""

    def close(self, left: Any, right: Any, threshold: float) -> Pairs:
        """Row and column of each entry that may reach ``threshold``; by row, then column."""


@dataclass(frozen=True)
class _Single:
    """Single precision on the processor."""

    @property
    def tile(self) -> int:
        return _TILE

    def hold(self, vectors: Vectors) -> Vectors:
        return vectors.copy()

    def close(self, left: Vectors, right: Vectors, threshold: float) -> Pairs:
        return Columns(right).above(left, threshold - _single_error(left.shape[1]))


class _Bfloat16:
    """bfloat16 wherever torch can."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._room: Any = None

    @property
    def tile(self) -> int:
        return _TILE if self._device == "cpu" else _ON_GPU

    def hold(self, vectors: Vectors) -> Any:
        import torch

        mine = vectors if vectors.flags.writeable else vectors.copy()  # else torch warns
        return torch.from_numpy(mine).to(device=self._device, dtype=torch.bfloat16)

    def close(self, left: Any, right: Any, threshold: float) -> Pairs:
        import torch

        from siftune.curate.vectors.full_precision import full_precision

        least = threshold - _single_error(left.shape[1]) - 2**-7
        found = self._products(len(left), len(right))
        with full_precision():
            torch.mm(left, right.T, out=found)
        if self._device != "cpu":
            row, column = torch.nonzero(found >= least, as_tuple=True)
            return row.cpu().numpy(), column.cpu().numpy()
        # Read as integers, bfloat16 numbers from 0 up keep their order and others are below.
        bound = torch.tensor(max(least, 0), dtype=torch.bfloat16).view(torch.int16)
        return hits(found.view(torch.int16).numpy(), np.int16(bound.item()))

    def _products(self, rows: int, columns: int) -> Any:
        """Room for products, the same each time: new memory costs as much as what is put there."""
        import torch

        if self._room is None or self._room.numel() < rows * columns:
            self._room = torch.empty(rows * columns, dtype=torch.bfloat16, device=self._device)
        return self._room[: rows * columns].view(rows, columns)


def _single_error(size: int) -> float:
    """The most that a product of unit vectors in single precision is off: n u, twice over."""
    return size * 2.0**-23


def products(dtype: Dtype, rows: int, small: bool = False) -> Products:
    """What to multiply with: ``auto`` takes the fastest at hand, the answers are the same.

    A graphics card where torch sees one, bfloat16 where the processor has instructions for it, and
    single precision otherwise: where there are too few rows to pay for loading torch, and where
    the products are many and ``small``, which torch takes longer for.
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
    found += some_pairs_above(units, threshold, engine, engine.hold(units), rows)
    left, right, cosines = zip(*found, strict=True)
    return np.concatenate(left), np.concatenate(right), np.concatenate(cosines)


def some_pairs_above(
    units: Vectors, threshold: float, engine: Products, held: Any, rows: Ints | None = None
) -> Iterator[tuple[Ints, Ints, Doubles]]:
    """The same some at a time: no more than those in one product. ``held`` are the units held."""
    squares = _squares(units)
    wanted = np.arange(len(units)) if rows is None else rows
    for start in range(0, len(wanted), _BLOCK):
        block = wanted[start : start + _BLOCK]
        for row, j in _tiles(engine, held[block], held[: block.max() + 1], threshold):
            i = block[row]
            i, j = i[j < i], j[j < i]
            cosine = _cosines(units, squares, i, j)
            above = cosine >= threshold
            yield i[above], j[above], cosine[above]


def cover_vectors(units: Vectors, threshold: float, engine: Products, fixed: int = 0) -> Cover:
    """The cover rule (`dedup.cover_rule`) on unit vectors given best first.

    Blocks of rows are held against the kept rows before them and against themselves; the pairs are
    never listed as a whole. The first ``fixed`` rows stay whatever they resemble.
    """
    held = engine.hold(units)  # its front is overwritten with the kept rows
    kept, count = np.empty(len(units), np.int64), 0

    def near(start: int, stop: int, survivor: Ints) -> Iterator[Pairs]:
        nonlocal count
        block = held[start:stop]
        for row, column in _tiles(engine, block, held[:count], threshold):
            yield row + start, kept[column]
        row, column = engine.close(block, block, threshold)
        yield row[column < row] + start, column[column < row] + start
        stay = np.flatnonzero(survivor[start:stop] < 0)
        held[count : count + len(stay)] = block[stay]
        kept[count : count + len(stay)] = stay + start
        count += len(stay)

    return cover_near(units, threshold, near, _BLOCK, fixed)


Near: TypeAlias = Callable[[int, int, Ints], Iterator[Pairs]]
"""Pairs (row of the block, better row) that may be near; those within the block last and by row."""


def cover_near(units: Vectors, threshold: float, near: Near, block: int, fixed: int = 0) -> Cover:
    """The cover rule on the pairs that ``near`` proposes for each block of rows, best first."""
    squares = _squares(units)
    survivor = np.full(len(units), -1, np.int64)
    similarity = np.full(len(units), np.nan)
    for start in range(0, len(units), block):
        for row, other in near(start, min(start + block, len(units)), survivor):
            _settle(units, squares, row, other, threshold, fixed, survivor, similarity)
    return Cover(survivor, similarity)


def _tiles(engine: Products, block: Any, held: Any, threshold: float) -> Iterator[Pairs]:
    for start in range(0, len(held), engine.tile):
        row, column = engine.close(block, held[start : start + engine.tile], threshold)
        if len(row):
            yield row, column + start


@compiled()
def _dot(x: Vectors, y: Vectors) -> float:
    """Summed in double precision from first to last: the same on any machine.

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
def _settle(
    units: Vectors,
    squares: Doubles,
    left: Ints,
    right: Ints,
    threshold: float,
    fixed: int,
    survivor: Ints,
    similarity: Doubles,
) -> None:
    """Note for each left row its most similar kept right row at or above the threshold."""
    for at in range(len(left)):
        i, j = left[at], right[at]
        if i < fixed or survivor[j] >= 0:
            continue
        cosine = _dot(units[i], units[j]) / np.sqrt(squares[i] * squares[j])
        nearer = survivor[i] < 0 or cosine > similarity[i]
        if cosine >= threshold and (nearer or (cosine == similarity[i] and j < survivor[i])):
            survivor[i], similarity[i] = j, cosine
