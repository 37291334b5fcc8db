"""InsTag: the rows with the most tags first, each adding a tag that its round has not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader, base_column, tag_lists
from siftune.curate.rows.decisions import decide_some, details, tie_order

__all__ = ["InsTag"]


@dataclass(frozen=True)
class InsTag(Budget):
    """Complexity-first diverse sampling of Lu et al., arXiv:2308.07074.

    Rows are sorted by their number of different tags, the largest first. In a round a row is taken
    if it has a tag that no row taken in this round has; then the tags are forgotten and the next
    round begins, until the budget is spent. The paper's code of this step was never published; this
    is its description. Tags are compared as they are written: no frequency filter, no merging of
    synonyms, which the paper does before (write one tag in one way first).

    A row without a list of tags is ``not_scored``, one whose list is empty ``no_tags``, since it
    adds none in any round; others are ``over_budget``. Detail: the number of ``tags``, and of a
    kept row its ``order`` and ``round``.

    Not for tags that a small judge made up row by row: nearly all differ, so that the rows with the
    most tags are taken whatever they are.

    Options:
        tags: Column with a list of tags for each row, such as the scorer `tags` adds.
    """

    tags: str = "tags"

    @property
    def needs(self) -> tuple[str, ...]:
        """The tags, and the column that counts tokens."""
        return (base_column(self.tags), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The tags, and the column that counts tokens."""
        return ((self.tags, tag_lists), *super().reads)

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Take rows in rounds until the budget is spent."""
        tags = tag_lists(table, self.tags).list.drop_nulls().list.unique()
        count = tags.list.len()
        known = self.known(table) & count.is_not_null().fill_null(False).to_numpy()
        order = tie_order(table, count)
        order = order[known[order]]
        order = order[(count.fill_null(0).to_numpy() > 0)[order]]
        left, costs = self.cost_limit(table.height), self.costs(table)
        place = np.zeros(table.height, dtype=np.int64)
        rounds = np.zeros(table.height, dtype=np.int64)
        for number, (row, turn) in enumerate(_rounds(order.tolist(), tags.to_list()), 1):
            left -= costs[row]
            if left < 0:
                break
            place[row], rounds[row] = number, turn
        frame = pl.DataFrame({"order": place, "round": rounds, "tags": count})
        kept = pl.col("order") > 0
        detail = details(
            frame.with_columns(pl.when(kept).then(one).alias(one) for one in ("order", "round"))
        )
        decided = frame.select(
            row=pl.int_range(pl.len()),
            keep=kept,
            reason=pl.when(kept)
            .then(pl.lit("selected"))
            .when(pl.col("tags") == 0)
            .then(pl.lit("no_tags"))
            .otherwise(pl.lit("over_budget")),
            detail=detail,
        )
        return decide_some(table.height, decided.filter(pl.Series(known)))


def _rounds(order: list[int], tags: list[list[str]]) -> Iterator[tuple[int, int]]:
    """Rows in the order in which they are taken, each with the number of its round."""
    turn = 0
    while order:
        turn += 1
        seen: set[str] = set()
        passed = []
        for row in order:
            if seen.issuperset(tags[row]):
                passed.append(row)
            else:
                seen.update(tags[row])
                yield row, turn
        order = passed
