"""Texts as UTF-8, and code points out of it, for compiled code."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.native.jit import compiled
from siftune.curate.native.pointers import byte

__all__ = ["decode", "utf8"]

_Int: TypeAlias = int | np.int64  # in compiled code they are the same


def utf8(text: pl.Series) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes of all texts, one after the other, and where each begins; null has none."""
    arrow = text.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, starts, content = arrow.buffers()
    offsets = np.frombuffer(starts, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    data = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
    return data, offsets


@compiled(inline="always")
def decode(base: _Int, at: _Int) -> tuple[_Int, _Int]:
    """Code point that starts at byte ``at`` of valid UTF-8 at the address ``base``; its length."""
    lead = byte(base, at)
    if lead < 0x80:
        return lead, 1
    second = byte(base, at + 1) & 63
    if lead < 0xE0:
        return (lead & 31) << 6 | second, 2
    third = byte(base, at + 2) & 63
    if lead < 0xF0:
        return (lead & 15) << 12 | second << 6 | third, 3
    fourth = byte(base, at + 3) & 63
    return (lead & 7) << 18 | second << 12 | third << 6 | fourth, 4
