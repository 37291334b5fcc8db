"""Operations on arrays for compiled loops.

numba compiles numpy's own of these names from general code, for each loop anew: a sort takes it one
to two seconds, a slice that is assigned to another half of one; these are compiled once.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import compiled

__all__ = ["enlarged", "equal", "first_at_least", "longest", "order_of", "put", "sort_few"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Array: TypeAlias = npt.NDArray[Any]
_Int: TypeAlias = int | np.int64
_RUN = 16  # values that are sorted by insertion


@compiled()
def longest(starts: Ints) -> _Int:
    """The largest step from one of ``starts`` to the next; 0 without one."""
    most = np.int64(0)
    for i in range(len(starts) - 1):
        most = max(most, starts[i + 1] - starts[i])
    return most


@compiled(plain=np.copyto)
def put(to: _Array, values: _Array) -> None:
    """Write ``values`` over ``to``, which has their length and other memory."""
    for i in range(len(values)):
        to[i] = values[i]


@compiled()
def enlarged(values: _Array, size: _Int) -> _Array:
    """An array of ``size`` that starts with ``values``; what follows is not set."""
    larger = np.empty(size, values.dtype)
    put(larger[: len(values)], values)
    return larger


@compiled(plain=np.array_equal)
def equal(one: _Array, other: _Array) -> bool:
    """Whether two arrays have the same values."""
    if len(one) != len(other):
        return False
    same = True
    for i in range(len(one)):
        same &= bool(one[i] == other[i])
    return same


@compiled(plain=np.searchsorted)
def first_at_least(values: _Array, key: Any) -> _Int:
    """The first place in sorted ``values`` of one that is not below ``key``, or their number."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@compiled(plain=np.ndarray.sort)
def sort_few(values: _Array) -> None:
    """Sort some dozens of values in place."""
    for i in range(1, len(values)):
        value = values[i]
        at = i
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value


def _order_in_numpy(values: _Array, order: Ints, _: Ints) -> None:
    order[:] = np.argsort(values, kind="stable")


@compiled(plain=_order_in_numpy)
def order_of(values: _Array, order: Ints, spare: Ints) -> None:
    """Write the places of ``values`` in ascending order to ``order``; equal ones keep theirs.

    A merge sort of short runs. All three arrays are of one length.
    """
    size = len(values)
    for start in range(0, size, _RUN):
        for i in range(start, min(start + _RUN, size)):
            at = i
            while at > start and values[order[at - 1]] > values[i]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = i
    width = _RUN
    while width < size:
        for start in range(0, size, 2 * width):
            left, right = start, min(start + width, size)
            middle, end = right, min(start + 2 * width, size)
            for at in range(start, end):
                from_left = left < middle
                if from_left and right < end:
                    from_left = values[order[left]] <= values[order[right]]
                spare[at] = order[left] if from_left else order[right]
                left += from_left
                right += not from_left
        put(order, spare)
        width *= 2
