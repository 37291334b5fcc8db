"""Difficulty-based selection: the pairs with the smallest implicit reward gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from siftune.curate.rows.budget import Budget, keep_best
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.expressions import ColumnExpression, needs_of, reads_of, scores

__all__ = ["Difficulty"]


@dataclass(frozen=True)
class Difficulty(Budget):
    """Keeps the pairs whose answers a DPO policy hardly separates; arXiv:2508.04149.

    The gap is ``Δ = β [log π/π_ref(chosen) - log π/π_ref(rejected)]``, as `policy_logp` adds it
    with a reference (β does not change the order). The paper keeps the tenth with the smallest gap.
    Its code sorts signed gaps upwards and so takes the most *negative* ones first: pairs that the
    policy orders the other way, among which wrong labels gather. Here the size ``|Δ|`` counts, and
    ``order: signed`` is the code's reading. The code also sums the log-probabilities of padding.

    Not for sets with wrong labels: these have the smallest gaps of all; drop them first
    (label_noise).

    Options:
        by: Column with the implicit reward gap, or an expression of columns.
        order: Whether the size of the gap is ranked, or the signed gap as in the paper's code.
    """

    by: ColumnExpression = "policy_logp_ratio_gap"
    order: Literal["size", "signed"] = "size"

    example: ClassVar = (("fraction", "0.1"),)

    @property
    def needs(self) -> tuple[str, ...]:
        """The gap, and what the budget reads."""
        return (*super().needs, *needs_of(self.by))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same, as numbers."""
        return (*super().reads, *reads_of(self.by))

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Rank every pair by its gap, smallest first."""
        gap = scores(table, self.by).cast(pl.Float64)
        size, name = (gap.abs(), f"abs({self.by})") if self.order == "size" else (gap, self.by)
        return keep_best(table, name, size, self, descending=False)
