"""Labelled rows that a judge learns from: pairs, the better answer first, or rated answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import kind_of
from siftune.curate.heads.calibrating import unit
from siftune.curate.heads.labelled import labels_of
from siftune.curate.judge_stats.calibration import Kind
from siftune.finetune.data import training_rows
from siftune.finetune.data.comparisons import as_pairs

__all__ = ["LABEL", "Labels", "read_labels"]

LABEL: Final = "judge_label"
"""Column of a rated row's label, from 0 (the lowest one that there is) to 1."""
_KINDS: Final = ("preference", "ranked", "conversation", "unpaired")
_ROWS: Final = 20
_PROMPTS: Final = 10


@dataclass(frozen=True)
class Labels:
    """Rows with labels: preference rows of ``pairs``, else rows with the column `LABEL`.

    ``values`` are the different labels, ``low`` and ``high`` their ends; ``left_out`` counts ties
    and rows without a label.
    """

    kind: Kind
    table: pl.DataFrame
    values: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 1.0
    left_out: int = 0

    def split(self, share: float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows to train on, and rows of other prompts to calibrate with.

        Raises:
            DataError: these are too few.
        """
        train, test = training_rows.held_out(self.table, share, seed)
        prompts = training_rows.prompt_keys(test).n_unique()
        if test.height < _ROWS or prompts < _PROMPTS:
            raise DataError(
                f"{self.table.height:,} labelled rows, of which {test.height:,} of {prompts:,} "
                f"prompts are held out: the calibration needs at least {_ROWS} of {_PROMPTS} "
                "prompts; give more rows, or a larger --held-out"
            )
        return train, test


def read_labels(source: Path, label: str | None, positive: str | None) -> Labels:
    """The labelled rows of ``source``; labels are as in `heads.labelled.labelled_rows`.

    Of a probability, that of the first answer of a pair being better, the likelier side is learned.

    Raises:
        UsageError: rows of this kind have no labels, or there is no such column.
        DataError: a label is of another kind, or no row has any.
    """
    table = training_rows.load(source, _KINDS)
    if kind_of(table) == "ranked":
        table = as_pairs(table)
        if table.is_empty():
            raise DataError(f"{source}: no list has two answers whose scores differ")
        return Labels("pairs", table)
    kind, numbers = labels_of(table, label, positive)
    known = np.isfinite(numbers) & ((kind != "pairs") | (numbers != 0.5))
    left_out = int((~known).sum())
    if left_out == table.height:
        raise DataError(f"{source}: no row has a label")
    table, numbers = table.filter(pl.Series(known)), numbers[known]
    if kind == "pairs":
        return Labels(kind, _oriented(table, numbers < 0.5), left_out=left_out)
    values = tuple(np.unique(numbers).tolist())
    if len(values) < 2:
        raise DataError(f"{source}: all labels are {values[0]:g}: a judge needs rows that differ")
    numbers, low, high = unit(kind, numbers)
    table = table.with_columns(pl.Series(LABEL, numbers))
    return Labels(kind, table, values, low, high, left_out)


def _oriented(table: pl.DataFrame, swap: Sequence[bool]) -> pl.DataFrame:
    """The pairs with the better answer as the chosen one."""
    swapped = pl.lit(pl.Series(swap))
    sides = {
        "chosen": pl.when(swapped).then("rejected").otherwise("chosen"),
        "rejected": pl.when(swapped).then("chosen").otherwise("rejected"),
    }
    return table.with_columns(**sides)
