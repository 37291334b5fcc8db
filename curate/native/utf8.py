"""UTF-8 bytes of a polars column without copying each text: one buffer, addresses, code points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.native.jit import compiled
from siftune.curate.native.pointers import byte

__all__ = ["TextViews", "decode", "text_views", "utf8_buffer"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_INLINE = 12  # bytes: a text of at most this size is stored in its view
_VIEW = 16  # bytes: size, then the text, or its first four bytes, buffer number and offset


def utf8_buffer(text: pl.Series) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The UTF-8 bytes of all texts in one buffer, and the offset of each; null has no bytes."""
    arrow = text.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, starts, content = arrow.buffers()
    offsets = np.frombuffer(starts, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    data = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
    return data, offsets


@dataclass(frozen=True)
class TextViews:
    """Text ``i`` is ``sizes[i]`` bytes of UTF-8 at ``addresses[i]``; null has 0 bytes.

    The addresses are valid as long as ``memory``, the owning buffers, is referenced.
    """

    addresses: Ints
    sizes: Ints
    memory: tuple[Any, ...]


def text_views(text: pl.Series) -> TextViews:
    """Addresses of the texts of a column, which polars keeps as Arrow string views."""
    chunks = [chunk.to_arrow(compat_level=pl.CompatLevel.newest()) for chunk in text.get_chunks()]
    parts = [_chunk_views(chunk) for chunk in chunks if len(chunk)]
    empty = [np.empty(0, np.int64)]
    addresses, sizes = (np.concatenate(empty + [part[i] for part in parts]) for i in (0, 1))
    sizes[text.is_null().to_numpy()] = 0
    return TextViews(addresses, sizes, (text, *chunks))


def _chunk_views(array: Any) -> tuple[Ints, Ints]:
    _, views, *others = array.buffers()
    fields = np.frombuffer(views, np.int32)[: (array.offset + len(array)) * _VIEW // 4]
    fields = fields.reshape(-1, _VIEW // 4)[array.offset :]
    sizes = fields[:, 0].astype(np.int64)
    inline = views.address + (array.offset + np.arange(len(array))) * _VIEW + 4
    starts = np.array([0, *(buffer.address for buffer in others)], np.int64)
    longer = sizes > _INLINE
    number = np.where(longer, fields[:, 2] + 1, 0)
    return np.where(longer, starts[number] + fields[:, 3], inline), sizes


@compiled(inline="always")
def decode(base: _Int, index: _Int) -> tuple[_Int, _Int]:
    """Code point at byte ``index`` of valid UTF-8 at address ``base``, and its length in bytes."""
    lead = byte(base, index)
    if lead < 0x80:
        return lead, 1
    second = byte(base, index + 1) & 63
    if lead < 0xE0:
        return (lead & 31) << 6 | second, 2
    third = byte(base, index + 2) & 63
    if lead < 0xF0:
        return (lead & 15) << 12 | second << 6 | third, 3
    fourth = byte(base, index + 3) & 63
    return (lead & 7) << 18 | second << 12 | third << 6 | fourth, 4
