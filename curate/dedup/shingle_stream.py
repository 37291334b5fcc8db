"""Shingles of many rows, made when they are asked for: those of all rows never lie together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.core.schema import content_columns, kind_of
from siftune.curate.dedup.shingles import Hashes, Offsets, Unit, shingles_of
from siftune.curate.dedup.text_pieces import Spoken, spoken
from siftune.curate.rows.chat import Part

__all__ = ["Chained", "Shingled", "Shingles", "Texts"]

Ints: TypeAlias = npt.NDArray[np.int64]
Shingles: TypeAlias = tuple[Hashes, Offsets]
"""Hashes one row after the other, and where each row starts."""


class Shingled(Protocol):
    """Rows whose shingles can be read more than once."""

    def __len__(self) -> int:
        """How many rows there are."""

    def about(self) -> int:
        """How many shingles there may be in all: enough, as a rule."""

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

    def about(self) -> int:
        """By the usual length of a word or letter."""
        size = int(self._spoken.pieces.sizes.sum())
        return size // 5 if self.unit == "word" else size

    def parts(self, rows: Ints | None = None) -> Iterator[Shingles]:
        """See `Shingled`."""
        return shingles_of(self._spoken, self.ngram, self.unit, rows)

    @cached_property
    def _spoken(self) -> Spoken:
        return spoken(self.table, self.part)


@dataclass(frozen=True)
class Chained:
    """The rows of several sources, one after the other."""

    sources: Sequence[Shingled]

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def about(self) -> int:
        """See `Shingled`."""
        return sum(source.about() for source in self.sources)

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
