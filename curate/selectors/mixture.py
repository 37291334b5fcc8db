"""Keep a mixture: groups, such as sources, in given shares of a number of rows or tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import (
    ColumnExpression,
    Natural,
    NonNegative,
    Seed,
    Share,
    check_ranges,
)
from siftune.curate.rows.budget import Budget, refuse_unknown_groups
from siftune.curate.rows.columns import Reader, groups
from siftune.curate.rows.decisions import decide, draws
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.rows.shares import share_out

__all__ = ["Mixture"]

_STREAM: Final = 0x6D6978 << 64
"""Seed offset for the draws: with those of `random`, a sample of kept rows would be biased."""


@dataclass(frozen=True)
class Mixture(Budget):
    """One budget, shared out among the values of ``group_by``; no row is kept twice.

    Without ``shares``, the share of a group is its size (in rows, or tokens where the budget counts
    them) to ``power``: 0 gives all groups the same, 1 keeps their proportions, 0.3 is that of mT5,
    arXiv:2010.11934. Of a group the best rows by ``by`` are kept, or a random sample. Numbers
    follow the shares as nearly as whole rows allow (the method of Sainte-Laguë). A group that has
    too few rows leaves its part to the others, in proportion; ``fill: false`` keeps fewer rows in
    place of that, in the shares that were asked for, and refuses shares of groups without any row
    that can be kept.

    A row without a group is ``no_group``, one whose group has no share ``not_in_mixture``, one
    without a score or of unknown length ``not_scored``, one that its group has no place for
    ``over_quota``. Detail: the ``group``, its ``size`` and the row's ``rank`` in it.

    Not for finding good shares: it keeps those that are given.

    Options:
        rows: Number of rows to keep of all groups together; give one of rows, fraction and tokens.
        group_by: Column whose values are the groups, such as source, prompt or extra.topic.
        shares: Share of each group by name, in any unit, such as web=3,books=1; groups that are not
            named are dropped.
        power: Power of a group's size that is its share, where no shares are given.
        fill: Let other groups take what a group with too few rows leaves of its part.
        by: Column with a score whose best rows are kept of each group, or an expression of columns;
            none keeps a random sample.
        seed: Seed of the random sample.
    """

    rows: Natural | None = None
    group_by: str = "source"
    shares: Mapping[str, NonNegative] | None = None
    power: Share = 0.0
    fill: bool = True
    by: ColumnExpression | None = None
    seed: Seed = 0

    example: ClassVar = (("shares", "web=3,books=1"),)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self)
        if self.shares is not None and not any(self.shares.values()):
            raise UsageError("mixture: shares: expected a share above 0, got none")

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that group, rank and count."""
        return (*super().needs, *needs_of(self.by))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same columns, as groups and numbers."""
        return (*super().reads, *reads_of(self.by))

    def most_kept(self, rows: int, sources: int | None = None) -> int:
        """The most rows that are kept of so many."""
        return self.limit(rows)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Share the budget out among the groups."""
        group = groups(table, self.group_by)
        if self.shares is not None:
            refuse_unknown_groups(self.shares, group, self.group_by, "shares")
        score = draws(table, self.seed + _STREAM) if self.by is None else scores(table, self.by)
        usable = score.is_not_null().to_numpy() & self.known(table)
        names = sorted(group.drop_nulls().unique())
        codes = group.replace_strict(
            {name: at for at, name in enumerate(names)}, default=-1, return_dtype=pl.Int64
        ).to_numpy()
        if self.shares is not None and not self.fill:
            self._refuse_empty(set(group.filter(pl.Series(usable, dtype=pl.Boolean))))
        shares = self._shares(names, codes[usable], self.costs(table)[usable])
        found = share_out(
            table, self, codes, shares, score, descending=self.by is not None, fill=self.fill
        )
        named = np.append(shares, 0.0)[codes] > 0
        reasons = np.select(
            [group.is_null().to_numpy(), ~named, ~usable, found.keep],
            ["no_group", "not_in_mixture", "not_scored", "selected"],
            "over_quota",
        )
        details = pl.DataFrame({"group": group, "rank": found.rank, "size": found.size})
        return decide(found.keep, reasons.tolist(), details)

    def _refuse_empty(self, there: set[str | None]) -> None:
        """Refuse a share of a group without a row that can be kept: no number has these shares."""
        empty = [name for name, share in (self.shares or {}).items() if share and name not in there]
        if there and empty:
            raise UsageError(
                f"mixture: no row of {', '.join(empty)} can be kept (scored, of known length), so "
                "no rows are in these shares: leave it out of shares, or set fill to true"
            )

    def _shares(self, names: list[str], codes: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """The share of each group, by its number."""
        if self.shares is not None:
            return np.array([float(self.shares.get(name, 0)) for name in names])
        inside = codes >= 0
        sizes = np.bincount(codes[inside], weights=costs[inside], minlength=len(names))
        return np.where(sizes > 0, sizes**self.power, 0.0)
