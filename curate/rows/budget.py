"""Budgets of rows, shares or tokens, of each group too, and the best rows within one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.progress import log_metrics
from siftune.curate.core.ranges import ColumnExpression, Natural, Share, check_ranges
from siftune.curate.rows.columns import Reader, base_column, groups
from siftune.curate.rows.decisions import DECISIONS, decide, draws, tie_order
from siftune.curate.rows.expressions import (
    ByColumn,
    needs_of,
    reads_of,
    scores,
    standard_score,
)
from siftune.curate.rows.score_errors import detail_with

__all__ = [
    "BestByColumn",
    "Budget",
    "groups_needed",
    "keep_best",
    "refuse_unknown_groups",
    "sampling_keys",
]

_SHOWN: Final = 8

_STREAM: Final = 0x74656D70 << 64
"""Seed offset for draws by score: with those of `random`, a sample of kept rows would be biased."""


@dataclass(frozen=True)
class Budget:
    """Exactly one of ``rows``, ``fraction`` and ``tokens``.

    A fraction is of the rows given, rounded half up, at least one row. Tokens are counted by the
    column ``tokens_by``: rows are taken in the given order until the next one would exceed the
    budget; a row of unknown length is skipped.

    With ``group_by`` each group is a table by itself, with a budget of its own: rows of other
    groups count for nothing. A row without a group is ``no_group``, one whose group ``rows`` does
    not name is ``not_in_quota``.

    Options:
        rows: Number of rows to keep (with group_by, of each group, or of each by name, such as
            web=100,books=50); give one of rows, fraction and tokens.
        fraction: Share of the rows to keep, from 0 to 1.
        tokens: Number of tokens to keep, as counted in the column ``tokens_by``.
        tokens_by: Column with the number of tokens of each row, for ``tokens``, or an expression
            of columns such as chosen_length_tokens + rejected_length_tokens.
        group_by: Column whose values are groups with a budget each, such as source, prompt or
            extra.topic; none takes all rows as one group.
    """

    rows: Natural | Mapping[str, Natural] | None = None
    fraction: Share | None = None
    tokens: Natural | None = None
    tokens_by: ColumnExpression = "length_tokens"
    group_by: str | None = None

    one_of: ClassVar = ("rows", "fraction", "tokens")

    def __post_init__(self) -> None:
        budgets = {name: getattr(self, name) for name in self.one_of}
        given = [value for value in budgets.values() if value is not None]
        if len(given) != 1:
            several = " and ".join(name for name, value in budgets.items() if value is not None)
            hint = f"; got {several}, of which null unsets one that a recipe sets" if given else ""
            raise UsageError(f"set exactly one of rows, fraction and tokens{hint}")
        if isinstance(self.rows, Mapping) and self.group_by is None:
            raise UsageError("rows: numbers by name need group_by, the column of the groups")
        most = float("inf") if self.fraction is None else 1
        if not all(0 <= number <= most for number in _numbers(given[0])):
            raise UsageError(
                f"the budget must not be negative, nor a fraction above 1; got {given[0]}"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that count tokens and that group, if any."""
        counts = () if self.tokens is None else needs_of(self.tokens_by)
        return (*counts, *groups_needed(self.group_by))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The columns that count tokens, as numbers, and the one that groups."""
        counts = () if self.tokens is None else reads_of(self.tokens_by)
        return counts if self.group_by is None else (*counts, (self.group_by, groups))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on each row; with ``group_by``, on each group by itself."""
        return self._select(table) if self.group_by is None else self._by_groups(table)

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on the rows of one group, or on all."""
        raise NotImplementedError

    def _by_groups(self, table: pl.DataFrame) -> pl.DataFrame:
        assert self.group_by is not None
        group = groups(table, self.group_by)
        if isinstance(self.rows, Mapping):
            refuse_unknown_groups(self.rows, group, self.group_by)
        frame = pl.DataFrame({"group": group}).with_row_index("at")
        decided = [pl.DataFrame(schema={"at": pl.UInt32, **DECISIONS})]
        for value, at in frame.group_by("group", maintain_order=True).agg("at").iter_rows():
            one = self._of_group(table[at], value)
            decided.append(one.select(pl.Series("at", at, dtype=pl.UInt32), *DECISIONS))
        return pl.concat(decided).sort("at").drop("at")

    def _of_group(self, rows: pl.DataFrame, name: str | None) -> pl.DataFrame:
        """Decisions on the rows of one group; the detail has its name as ``group``."""
        number = self.rows.get(name or "") if isinstance(self.rows, Mapping) else self.rows
        if name is None or (number is None and self.rows is not None):
            return decide([False] * rows.height, "no_group" if name is None else "not_in_quota")
        decided = replace(self, rows=number, group_by=None)._select(rows)
        named = [text and detail_with(text, group=name) for text in decided["detail"]]
        return decided.with_columns(detail=pl.Series(named, dtype=pl.String))

    def limit(self, height: int) -> int:
        """The most rows that can be kept of ``height``; all, where tokens are counted."""
        if isinstance(self.rows, int):
            return min(self.rows, height)
        if self.fraction is not None:
            return min(height, max(int(self.fraction > 0), int(self.fraction * height + 0.5)))
        return height

    def most_kept(self, rows: int, sources: int | None = None) -> int:
        """As `limit`, for the forecast of a run; all, where the number of groups is unknown."""
        if isinstance(self.rows, Mapping):
            return min(rows, sum(self.rows.values()))
        if self.group_by is None:
            return self.limit(rows)
        known = sources if self.rows is not None and self.group_by == "source" else None
        return min(rows, self.limit(rows) * known) if known else rows

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


def _numbers(given: float | Mapping[str, int]) -> list[float]:
    return [*given.values()] if isinstance(given, Mapping) else [given]


def groups_needed(group_by: str | None) -> tuple[str, ...]:
    """The columns of a table that `groups` reads for the name of a column."""
    if group_by is None:
        return ()
    return ("content" if group_by == "prompt" else base_column(group_by),)


def refuse_unknown_groups(
    given: Mapping[str, float], group: pl.Series, group_by: str, option: str = "rows"
) -> None:
    """Refuse numbers by name, those of ``option``, where no row of a table has one of the names.

    Where rows have some of the names, those that none has are logged: they may be misspelled.
    """
    there = group.drop_nulls().unique().sort()
    lacking = [name for name in given if name not in there]
    if not lacking or not group.len():
        return
    others = [name for name in there if name not in given]
    if len(lacking) == len(given):
        raise UsageError(
            f"{option}: no row has one of the values {', '.join(given)} in {group_by!r}; "
            f"there are {', '.join(others[:_SHOWN])}"
        )
    not_named = f"; not named in {option} are {', '.join(others[:_SHOWN])}" if others else ""
    log_metrics(no_such_group=f"no row has {', '.join(lacking)} in {group_by!r}{not_named}")


class BestByColumn(ByColumn, ABC):
    """What `top_k` and `top_fraction` share: they keep the best rows by a column, in a budget."""

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
