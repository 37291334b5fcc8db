"""Budgets of rows, shares or tokens, and the selection of the best rows within one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.ranges import Natural, Share, check_ranges
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.decisions import decide, draws, tie_order
from siftune.curate.rows.expressions import (
    ColumnExpression,
    needs_of,
    reads_of,
    scores,
    standard_score,
)

__all__ = ["BestByColumn", "Budget", "keep_best", "sampling_keys"]

_STREAM: Final = 0x74656D70 << 64
"""Seed offset for draws by score: with those of `random`, a sample of kept rows would be biased."""


@dataclass(frozen=True)
class Budget:
    """Exactly one of ``rows``, ``fraction`` and ``tokens``.

    A fraction is of the rows given, rounded half up, at least one row. Tokens are counted by the
    column ``tokens_by``: rows are taken in the given order until the next one would exceed the
    budget; a row of unknown length is skipped.

    Options:
        rows: Number of rows to keep; give one of rows, fraction and tokens.
        fraction: Share of the rows to keep, from 0 to 1.
        tokens: Number of tokens to keep, as counted in the column ``tokens_by``.
        tokens_by: Column with the number of tokens of each row, for ``tokens``, or an expression
            of columns such as chosen_length_tokens + rejected_length_tokens.
    """

    rows: Natural | None = None
    fraction: Share | None = None
    tokens: Natural | None = None
    tokens_by: ColumnExpression = "length_tokens"

    one_of: ClassVar = ("rows", "fraction", "tokens")

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
        """The column that counts tokens, if any."""
        return () if self.tokens is None else needs_of(self.tokens_by)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The column that counts tokens, as numbers."""
        return () if self.tokens is None else reads_of(self.tokens_by)

    def limit(self, height: int) -> int:
        """The most rows that can be kept of ``height``; all, where tokens are counted."""
        if self.rows is not None:
            return min(self.rows, height)
        if self.fraction is not None:
            return min(height, max(int(self.fraction > 0), int(self.fraction * height + 0.5)))
        return height

    def most_kept(self, rows: int, sources: int | None = None) -> int:
        """As `limit`, for the forecast of a run."""
        return self.limit(rows)

    def known(self, table: pl.DataFrame) -> np.ndarray:
        """Mask of the rows that can be kept at all: their length is known, or not counted."""
        if self.tokens is None:
            return np.ones(table.height, dtype=bool)
        known: np.ndarray = np.isfinite(self.costs(table))
        return known

    def costs(self, table: pl.DataFrame) -> np.ndarray:
        """Tokens of each row as float64, infinite where unknown; 1 where rows are counted."""
        if self.tokens is None:
            return np.ones(table.height)
        lengths = scores(table, self.tokens_by).cast(pl.Float64)
        if (lengths < 0).any():
            raise DataError(f"column {self.tokens_by}: expected lengths, found a negative number")
        return np.array(lengths.fill_null(float("inf")), dtype=np.float64)

    def cost_limit(self, height: int) -> float:
        """The largest sum of `costs`."""
        return self.limit(height) if self.tokens is None else self.tokens

    def take(self, table: pl.DataFrame, order: np.ndarray) -> np.ndarray:
        """The leading part of ``order`` (row numbers of ``table``) within the budget."""
        payable = order[self.known(table)[order]]
        spent = np.cumsum(self.costs(table)[payable])
        paid = int(np.searchsorted(spent, self.cost_limit(table.height), side="right"))
        taken: np.ndarray = payable[:paid]
        return taken


class BestByColumn(ABC):
    """What `top_k` and `top_fraction` share: they keep the best rows by a column, in a budget."""

    by: str
    descending: bool
    temperature: float | None
    seed: int

    @property
    @abstractmethod
    def budget(self) -> Budget:
        """How many rows are kept."""

    def __post_init__(self) -> None:
        _ = self.budget  # which refuses an option out of range
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that rank."""
        return needs_of(self.by)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The columns, as numbers."""
        return reads_of(self.by)

    def most_kept(self, rows: int, sources: int | None = None) -> int:
        """The most rows that are kept of so many."""
        return self.budget.limit(rows)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Rank every row."""
        found = scores(table, self.by)
        return keep_best(
            table,
            self.by,
            found,
            self.budget,
            descending=self.descending,
            temperature=self.temperature,
            seed=self.seed,
        )


def keep_best(
    table: pl.DataFrame,
    by: str,
    scores: pl.Series,
    budget: Budget,
    *,
    descending: bool = True,
    reason: str | None = None,
    temperature: float | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Decisions that keep the best rows by ``scores`` (null: unknown), called ``by``.

    With a ``temperature``, rows are drawn instead (`sampling_keys`): their rank is that of the
    draw, and a row that is not kept is ``not_drawn``.

    Detail: ``by``, the row's ``value``, its ``rank`` (from 1, among the rows with a score) and the
    ``cutoff``, the value of the last row kept. Rows that are not kept have ``reason``, or
    ``below_cutoff`` (``above_cutoff`` where small is good); a row without a score, or without a
    length where tokens are counted, is ``not_scored``.
    """
    keys = [scores]
    if temperature is not None:
        good = scores.cast(pl.Float64) * (1 if descending else -1)
        keys = [sampling_keys(table, good, temperature, seed), good]
        descending, reason = True, "not_drawn"
    scored = keys[0].is_not_null().to_numpy() & budget.known(table)
    order = tie_order(table, *keys, descending=descending)
    order = order[scored[order]]
    taken = budget.take(table, order)
    keep = np.zeros(table.height, dtype=bool)
    keep[taken] = True
    passed_over = reason or ("below_cutoff" if descending else "above_cutoff")
    reasons = pl.Series(["not_scored", passed_over, "selected"])[scored + keep.astype(np.int64)]
    particulars = _particulars(by, scores, order, taken)
    if temperature is not None:
        particulars = particulars.drop("cutoff").with_columns(temperature=pl.lit(temperature))
    return decide(keep, reasons, particulars)


def sampling_keys(
    table: pl.DataFrame, scores: pl.Series, temperature: float, seed: int
) -> pl.Series:
    """Numbers whose k largest are k draws without replacement, each by ``exp(z / temperature)``.

    ``z`` is the score in standard deviations from the mean, so that a temperature means the same
    for every score. The number is ``z / temperature`` plus Gumbel noise (Gumbel top-k,
    arXiv:1903.06059), made of a draw by the row's own content, id and the seed: the order of the
    rows does not matter, and a larger sample contains the smaller one. Null where the score is null
    or infinite.
    """
    value = scores.cast(pl.Float64).to_numpy()
    value = standard_score(np.where(np.isfinite(value), value, np.nan))
    uniform = np.maximum(draws(table, seed + _STREAM).to_numpy(), 2.0**-54)
    with np.errstate(over="ignore"):  # near temperature 0, infinite keys are ordered by score
        keys = value / temperature - np.log(-np.log(uniform))
    return pl.Series(keys).fill_nan(None)


def _particulars(by: str, scores: pl.Series, order: np.ndarray, taken: np.ndarray) -> pl.DataFrame:
    rank = np.zeros(len(scores), dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    cutoff = scores[int(taken[-1])] if len(taken) else None
    frame = pl.DataFrame({"value": scores, "rank": rank})
    return frame.select(
        by=pl.lit(by, dtype=pl.String),
        cutoff=pl.lit(cutoff, dtype=scores.dtype),
        rank=pl.when(pl.col("rank") > 0).then("rank"),
        value="value",
    )
