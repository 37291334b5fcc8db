"""An array that grows in place, for data of which the end is not known when it begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Grown"]


class Grown:
    """Appends arrays to one another without their lying there twice.

    Pieces kept in a list would be joined at the cost of a second copy, and leave holes between the
    temporaries made along with them. ``room`` is how many values are expected: what is not written
    to takes no memory, and only if they are more the array is moved.
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
        """The whole array, cut to length; the object is of no more use after it."""
        values, self._values = self._values, self._values[:0].copy()
        values.resize(self._end, refcheck=False)
        return values
