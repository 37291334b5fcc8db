"""How much to keep: so many rows, a share of the rows, or so many tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from curate.core.columns import base_column, values
from curate.core.errors import UsageError

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """Exactly one of ``rows``, ``fraction`` and ``tokens``.

    A fraction is of the rows given, rounded half up, at least one row. Tokens are counted by the
    column ``tokens_by``: rows are taken in the given order until the next one would go over; a row
    of unknown length does not fit.
    """

    rows: int | None = None
    fraction: float | None = None
    tokens: int | None = None
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

    def limit(self, height: int) -> int:
        """The most rows that can be kept of ``height``; all, where tokens decide."""
        if self.rows is not None:
            return min(self.rows, height)
        if self.fraction is not None:
            return min(height, max(int(self.fraction > 0), int(self.fraction * height + 0.5)))
        return height

    def take(self, table: pl.DataFrame, order: np.ndarray) -> np.ndarray:
        """The leading part of ``order`` (row numbers of ``table``) that the budget pays for."""
        if self.tokens is None:
            return order[: self.limit(table.height)]
        lengths = values(table, self.tokens_by).cast(pl.Int64).to_numpy()[order].astype(np.float64)
        spent = np.cumsum(np.nan_to_num(lengths, nan=np.inf))
        return order[: int(np.searchsorted(spent, self.tokens, side="right"))]
