"""Growable array: appends numpy arrays in place, for data of unknown length."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Grown"]


class Grown:
    """Appends arrays to one another without a second copy.

    A list of pieces would be joined at the cost of a second copy, and leave holes between the
    temporaries made along with them. ``room`` is the expected number of values: unwritten pages
    take no memory, and the array is moved only if it grows beyond.
    """

    def __init__(self, dtype: npt.DTypeLike, room: int = 1 << 22) -> None:
        self._values: npt.NDArray[Any] = np.empty(max(room, 1), dtype)
        self._end = 0

    def add(self, part: npt.NDArray[Any]) -> None:
        """Append; numbers are cast to the array's type."""
        end = self._end + len(part)
        if end > len(self._values):
            self._values.resize(end + end // 2, refcheck=False)
        self._values[self._end : end] = part
        self._end = end

    def take(self) -> npt.NDArray[Any]:
        """The whole array, cut to length; the object cannot be used after it."""
        values, self._values = self._values, self._values[:0].copy()
        values.resize(self._end, refcheck=False)
        return values
