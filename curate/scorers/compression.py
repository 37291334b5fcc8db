"""Compression ratio of a text: bytes over bytes after zlib, large where it repeats itself."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.rows.chat import Part, part_of

__all__ = ["Compression"]


@dataclass(frozen=True)
class Compression:
    """``compression = bytes / compressed bytes`` of one text in UTF-8; arXiv:2403.00553.

    1 is text without any repetition, prose of some hundred words is near 2, a list or a loop far
    above. The stream is bare DEFLATE at level 9, without the header and checksum of zlib (6 bytes),
    which would be most of a short text's ratio. Texts in other scripts take more bytes a letter and
    compress better. An empty text, and a row without the text, has null.

    Not for comparing texts of different lengths: a longer text repeats more; divide out the length
    first, or compare within ranges of it (stratified).

    Options:
        of: Text that is compressed: the response, the prompt, or both.
    """

    of: Part = "response"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"compression": pl.Float32}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """One ratio a row."""
        texts = part_of(batch["messages"], self.of)
        return pl.DataFrame({"compression": [_ratio(text) for text in texts]}, schema=self.adds)


def _ratio(text: str | None) -> float | None:
    if not text:
        return None
    data = text.encode()
    packed = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return len(data) / (len(packed.compress(data)) + len(packed.flush()))
