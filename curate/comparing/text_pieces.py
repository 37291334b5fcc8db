"""The texts of rows as lists of pieces in the table's own memory: nothing is joined or copied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.comparing.equality import turns_of
from siftune.curate.native.utf8 import text_views
from siftune.curate.rows.chat import Part, calls_of, text_of

__all__ = ["Pieces", "RowTexts", "column_texts", "row_texts"]

Ints: TypeAlias = npt.NDArray[np.int64]


class Pieces(NamedTuple):
    """Text ``i`` is the pieces ``starts[i]:starts[i + 1]``, joined by a blank.

    Piece ``j`` is ``sizes[j]`` bytes of UTF-8 at ``addresses[j]``.
    """

    addresses: Ints
    sizes: Ints
    starts: Ints


@dataclass(frozen=True)
class RowTexts:
    """The text of each row; ``memory`` keeps the owning buffers alive.

    ``calls`` (n,) is a hash of the tool calls of each row, 0 without calls; None if no row has any.
    Rows with different calls share no shingle.
    """

    pieces: Pieces
    memory: tuple[Any, ...]
    calls: npt.NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.pieces.starts) - 1

    def batches(self, size: int, rows: Ints | None = None) -> Iterator[Ints]:
        """Row numbers, of all rows or of ``rows``, in batches of about ``size`` bytes of text."""
        numbers = np.arange(len(self)) if rows is None else rows
        ends = np.append(0, self.pieces.sizes.cumsum())[self.pieces.starts]
        ends = (ends[numbers + 1] - ends[numbers]).cumsum()
        start = 0
        while start < len(numbers):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + size, side="right")))
            yield numbers[start:stop]
            start = stop


def column_texts(text: pl.Series, calls: pl.Series | None = None) -> RowTexts:
    """Each text of a column as one piece, null as an empty one; ``calls`` are those of each row."""
    views = text_views(text)
    pieces = Pieces(views.addresses, views.sizes, np.arange(len(text) + 1))
    return RowTexts(pieces, views.memory, _hashes(calls))


def _hashes(calls: pl.Series | None) -> npt.NDArray[np.uint64] | None:
    """64 bits of BLAKE2b of each text, equal in all versions; 0 for null."""
    if calls is None:
        return None
    digests = [
        b"" if call is None else blake2b(call.encode(), digest_size=8).digest() for call in calls
    ]
    return np.frombuffer(b"".join(digest or bytes(8) for digest in digests), np.uint64)


def row_texts(table: pl.DataFrame, part: Part) -> RowTexts:
    """The prompt, the answers, or both, of each row: the turns that `content.text_of` joins."""
    turns, calls = turns_of(table, part), calls_of(table, part)
    if turns is None:
        return column_texts(text_of(table, part), calls)
    columns = [(text_views(column.texts), column) for column in turns.columns]
    counts = [np.diff(column.starts) for _, column in columns]
    addresses = np.concatenate([views.addresses[column.turns] for views, column in columns])
    sizes = np.concatenate([views.sizes[column.turns] for views, column in columns])
    memory = tuple(views.memory for views, _ in columns)
    starts = np.append(0, np.sum(counts, axis=0).cumsum())
    if len(columns) > 1:  # order the pieces by row
        rows = np.concatenate([np.repeat(np.arange(table.height), count) for count in counts])
        order = np.argsort(rows, kind="stable")
        addresses, sizes = addresses[order], sizes[order]
    return RowTexts(Pieces(addresses, sizes, starts), memory, _hashes(calls))
