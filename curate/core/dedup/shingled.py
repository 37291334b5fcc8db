"""Shingles of many rows, made when they are asked for: those of all rows never lie together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from curate.core.chat import Part
from curate.core.content import text_of
from curate.core.dedup.shingles import Hashes, Offsets, Unit, shingle, threads
from curate.core.schema import content_columns, kind_of

__all__ = ["Chained", "Shingled", "Shingles", "Texts"]

Ints: TypeAlias = npt.NDArray[np.int64]
Shingles: TypeAlias = tuple[Hashes, Offsets]
"""Hashes one row after the other, and where each row starts."""

_BYTES = 4 << 20  # of rows whose text is copied out of the table at a time


class Shingled(Protocol):
    """Rows whose shingles can be read more than once."""

    def __len__(self) -> int:
        """How many rows there are."""

    def parts(self, rows: Ints | None = None) -> Iterator[Shingles]:
        """The shingles of all rows, or of those numbered, in order, a stretch at a time."""


@dataclass(frozen=True)
class Texts:
    """The texts of a table; they are cut up anew at each reading."""

    table: pl.DataFrame
    part: Part
    ngram: int
    unit: Unit

    @classmethod
    def of(cls, table: pl.DataFrame, part: Part, ngram: int, unit: Unit) -> Texts:
        """Only the columns that hold text are kept."""
        columns = content_columns(kind_of(table))
        return cls(table.select("kind", *columns), part, ngram, unit)

    def __len__(self) -> int:
        return self.table.height

    def parts(self, rows: Ints | None = None) -> Iterator[Shingles]:
        """See `Shingled`."""
        height = len(self) if rows is None else len(rows)
        step = max(1, _BYTES * len(self) // max(1, int(self.table.estimated_size())))

        def cut(start: int) -> Shingles:
            some = slice(start, start + step)
            text = text_of(self.table[some] if rows is None else self.table[rows[some]], self.part)
            return shingle(text, self.ngram, self.unit)

        return _ahead(cut, range(0, height, step))


def _ahead(work: Callable[[int], Shingles], starts: Iterable[int]) -> Iterator[Shingles]:
    """Results in order, made by as many threads as there are, not many before they are taken."""
    if threads() == 1:  # a thread has a heap of its own, which it hardly ever gives back
        yield from map(work, starts)
        return
    with ThreadPoolExecutor(threads()) as pool:
        waiting: deque[Future[Shingles]] = deque()
        for start in starts:
            waiting.append(pool.submit(work, start))
            if len(waiting) > threads():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@dataclass(frozen=True)
class Chained:
    """The rows of several sources, one after the other."""

    sources: Sequence[Shingled]

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def parts(self, rows: Ints | None = None) -> Iterator[Shingles]:
        """See `Shingled`."""
        start = 0
        for source in self.sources:
            if rows is None:
                yield from source.parts()
            else:
                low, high = np.searchsorted(rows, [start, start + len(source)])
                yield from source.parts(rows[low:high] - start)
            start += len(source)
