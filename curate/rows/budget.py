"""How much to keep: so many rows, a share of the rows, or so many tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.ranges import Natural, Share
from siftune.curate.rows.columns import Reader, base_column, numbers

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """Exactly one of ``rows``, ``fraction`` and ``tokens``.

    A fraction is of the rows given, rounded half up, at least one row. Tokens are counted by the
    column ``tokens_by``: rows are taken in the given order until the next one would go over; a row
    of unknown length is passed over.
    """

    rows: Natural | None = None
    fraction: Share | None = None
    tokens: Natural | None = None
    tokens_by: str = "length_tokens"

    def __post_init__(self) -> None:
        given = [value for value in (self.rows, self.fraction, self.tokens) if value is not None]
        if len(given) != 1:
            raise UsageError("set exactly one of rows, fraction and tokens")
        if given[0] < 0 or (self.fraction is not None and self.fraction > 1):
            raise UsageError(
                f"the budget must not be negative, nor a fraction above 1; got {given[0]}"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """The column that counting reads, if any."""
        return () if self.tokens is None else (base_column(self.tokens_by),)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The column that counts, as numbers."""
        return () if self.tokens is None else ((self.tokens_by, numbers),)

    def limit(self, height: int) -> int:
        """The most rows that can be kept of ``height``; all, where tokens decide."""
        if self.rows is not None:
            return min(self.rows, height)
        if self.fraction is not None:
            return min(height, max(int(self.fraction > 0), int(self.fraction * height + 0.5)))
        return height

    def most_kept(self, rows: int, sources: int | None = None) -> int:
        """`limit`, for the forecast of a run."""
        return self.limit(rows)

    def known(self, table: pl.DataFrame) -> np.ndarray:
        """Which rows can be paid for at all: their length is known, or does not matter."""
        if self.tokens is None:
            return np.ones(table.height, dtype=bool)
        known: np.ndarray = np.isfinite(self.costs(table))
        return known

    def costs(self, table: pl.DataFrame) -> np.ndarray:
        """Tokens of each row as float64, infinite where unknown; 1 where rows are counted."""
        if self.tokens is None:
            return np.ones(table.height)
        lengths = numbers(table, self.tokens_by).cast(pl.Float64)
        if (lengths < 0).any():
            raise DataError(f"column {self.tokens_by}: expected lengths, found a negative number")
        return np.array(lengths.fill_null(float("inf")), dtype=np.float64)

    def purse(self, height: int) -> float:
        """What may be spent in all, in the unit of `costs`."""
        return self.limit(height) if self.tokens is None else self.tokens

    def take(self, table: pl.DataFrame, order: np.ndarray) -> np.ndarray:
        """The leading part of ``order`` (row numbers of ``table``) that the budget pays for."""
        payable = order[self.known(table)[order]]
        spent = np.cumsum(self.costs(table)[payable])
        paid = int(np.searchsorted(spent, self.purse(table.height), side="right"))
        taken: np.ndarray = payable[:paid]
        return taken
