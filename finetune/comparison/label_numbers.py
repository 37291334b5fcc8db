"""Numbers that objectives read, where pairs say no more than which answer is the better one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import polars as pl

from siftune.curate.core import registry
from siftune.finetune.data.row_numbers import numbers_of
from siftune.finetune.losses.types import needs_of
from siftune.finetune.training.answer_tables import SCORES
from siftune.finetune.training.build_loss import LOSSES, group_of

__all__ = ["with_label_numbers"]

_LESS: Final = ("by_reference",)  # numbers that are 1 of the answer which is not the policy's


def with_label_numbers(
    table: pl.DataFrame, objectives: Iterable[str], groups: tuple[str, ...]
) -> pl.DataFrame:
    """Preference rows with every number that ``objectives`` read: 1 if chosen, 0 if rejected.

    A number that the rows have is left as it is. Of ``by_reference`` it is the other way round: the
    better answer is taken for the policy's.
    """
    wanted: dict[str, float] = {}
    for name in objectives:
        group = group_of(name, groups)
        columns = needs_of(registry.find(group, name)).columns
        if group == LOSSES:
            wanted |= {column: float(not column.endswith("_rejected")) for column in columns}
        else:
            for column in columns:
                number, good = "score" if column in SCORES else column, float(column not in _LESS)
                wanted |= {f"{number}_chosen": good, f"{number}_rejected": 1 - good}
    lacking = {
        name: value
        for name, value in wanted.items()
        if numbers_of(table, name).null_count() == table.height
    }
    return table.with_columns(pl.lit(value).alias(name) for name, value in lacking.items())
