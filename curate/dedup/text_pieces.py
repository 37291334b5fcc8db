"""The texts of rows where they lie in the table: some pieces each, none joined, nothing copied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.dedup.equality import turns_of
from siftune.curate.native.string_views import views
from siftune.curate.rows.chat import Part, calls_of, text_of

__all__ = ["Pieces", "Spoken", "spoken", "whole"]

Ints: TypeAlias = npt.NDArray[np.int64]


class Pieces(NamedTuple):
    """Text ``i`` is the pieces ``starts[i]:starts[i + 1]``, with a blank between two of them.

    Piece ``j`` is ``sizes[j]`` bytes of UTF-8 at ``addresses[j]``.
    """

    addresses: Ints
    sizes: Ints
    starts: Ints


@dataclass(frozen=True)
class Spoken:
    """The text of each row; ``memory`` is what holds it.

    ``calls`` is a hash of each row's tool calls, 0 where it has none, or None where none has. Rows
    with different ones share no shingle.
    """

    pieces: Pieces
    memory: tuple[Any, ...]
    calls: npt.NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.pieces.starts) - 1

    def stretches(self, size: int, rows: Ints | None = None) -> Iterator[Ints]:
        """The numbers of all rows, or of those given, about ``size`` bytes at a time."""
        numbers = np.arange(len(self)) if rows is None else rows
        ends = np.append(0, self.pieces.sizes.cumsum())[self.pieces.starts]
        ends = (ends[numbers + 1] - ends[numbers]).cumsum()
        start = 0
        while start < len(numbers):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + size, side="right")))
            yield numbers[start:stop]
            start = stop


def whole(text: pl.Series, calls: pl.Series | None = None) -> Spoken:
    """Each text of a column as one piece; null has nothing in it. ``calls`` are of each row."""
    seen = views(text)
    pieces = Pieces(seen.addresses, seen.sizes, np.arange(len(text) + 1))
    return Spoken(pieces, seen.memory, _hashes(calls))


def _hashes(calls: pl.Series | None) -> npt.NDArray[np.uint64] | None:
    """64 bits of BLAKE2b of each text, the same in every version; 0 for null."""
    if calls is None:
        return None
    digests = [
        b"" if call is None else blake2b(call.encode(), digest_size=8).digest() for call in calls
    ]
    return np.frombuffer(b"".join(digest or bytes(8) for digest in digests), np.uint64)


def spoken(table: pl.DataFrame, part: Part) -> Spoken:
    """The prompt, the answers, or both, of each row: what `content.text_of` joins."""
    turns, calls = turns_of(table, part), calls_of(table, part)
    if turns is None:
        return whole(text_of(table, part), calls)
    columns = [(views(column.texts), column) for column in turns.columns]
    counts = [np.diff(column.starts) for _, column in columns]
    addresses = np.concatenate([seen.addresses[column.turns] for seen, column in columns])
    sizes = np.concatenate([seen.sizes[column.turns] for seen, column in columns])
    memory = tuple(seen.memory for seen, _ in columns)
    starts = np.append(0, np.sum(counts, axis=0).cumsum())
    if len(columns) > 1:  # row by row
        rows = np.concatenate([np.repeat(np.arange(table.height), count) for count in counts])
        order = np.argsort(rows, kind="stable")
        addresses, sizes = addresses[order], sizes[order]
    return Spoken(Pieces(addresses, sizes, starts), memory, _hashes(calls))
