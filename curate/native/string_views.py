"""Texts of a column where they lie: the address of each and its size, nothing copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["Views", "views"]

Ints: TypeAlias = npt.NDArray[np.int64]
_INLINE = 12  # bytes: a text that short lies in its view itself
_VIEW = 16  # bytes: size, then the text, or its first four bytes, its buffer and its place there


@dataclass(frozen=True)
class Views:
    """``sizes[i]`` bytes of UTF-8 at ``addresses[i]``, as long as this object is there.

    Null has no byte; ``memory`` is what holds the others.
    """

    addresses: Ints
    sizes: Ints
    memory: tuple[Any, ...]


def views(text: pl.Series) -> Views:
    """Where the texts of a column lie; as Arrow has it, polars keeps them as "string views"."""
    chunks = [chunk.to_arrow(compat_level=pl.CompatLevel.newest()) for chunk in text.get_chunks()]
    found = [_chunk(chunk) for chunk in chunks if len(chunk)]
    nothing = [np.empty(0, np.int64)]
    addresses, sizes = (np.concatenate(nothing + [one[at] for one in found]) for at in (0, 1))
    sizes[text.is_null().to_numpy()] = 0
    return Views(addresses, sizes, (text, *chunks))


def _chunk(array: Any) -> tuple[Ints, Ints]:
    _, own, *others = array.buffers()
    found = np.frombuffer(own, np.int32)[: (array.offset + len(array)) * _VIEW // 4]
    found = found.reshape(-1, _VIEW // 4)[array.offset :]
    sizes = found[:, 0].astype(np.int64)
    inline = own.address + (array.offset + np.arange(len(array))) * _VIEW + 4
    starts = np.array([0, *(one.address for one in others)], np.int64)
    longer = sizes > _INLINE
    buffer = np.where(longer, found[:, 2] + 1, 0)
    return np.where(longer, starts[buffer] + found[:, 3], inline), sizes
