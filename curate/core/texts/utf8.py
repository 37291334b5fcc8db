"""Code points out of UTF-8, for compiled code."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from curate.core.compiled import compiled

__all__ = ["decode"]

_Int: TypeAlias = int | np.int64  # in compiled code they are the same


@compiled(inline="always")
def decode(data: npt.NDArray[np.uint8], at: _Int) -> tuple[_Int, _Int]:
    """Code point that starts at a byte of valid UTF-8, and its length."""
    lead = np.int64(data[at])
    if lead < 0x80:
        return lead, 1
    second = np.int64(data[at + 1]) & 63
    if lead < 0xE0:
        return (lead & 31) << 6 | second, 2
    third = np.int64(data[at + 2]) & 63
    if lead < 0xF0:
        return (lead & 15) << 12 | second << 6 | third, 3
    fourth = np.int64(data[at + 3]) & 63
    return (lead & 7) << 18 | second << 12 | third << 6 | fourth, 4
