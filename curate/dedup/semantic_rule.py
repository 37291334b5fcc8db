"""The default rule of semantic duplicates: a guard of facts, and the whole row survives.

Rows that differ in a number, a name or a negation have nearly equal embeddings. So of the similar
pairs only those are duplicates that the guard allows (`row_guard.allows_paraphrase`).
Without a score the whole row survives, as in the default rule of near-duplicates
(`whole_answers.wholeness`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.comparing.row_words import text_keys
from siftune.curate.comparing.shingles import TextShingles
from siftune.curate.dedup.default_rule import RowSides, same_prompt_parts
from siftune.curate.dedup.row_guard import Guard, allows_paraphrase
from siftune.curate.dedup.whole_answers import wholeness
from siftune.curate.native.jit import compiled
from siftune.curate.rows.chat import Part, text_of

__all__ = ["FactGuard", "whole_first"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FactGuard:
    """Finds pairs of rows with the same facts; position ``i`` is row ``rows[i]`` of ``sides``."""

    sides: RowSides
    rows: Ints

    def __call__(self, left: Ints, right: Ints) -> _Mask:
        """Whether each pair of positions may be duplicates; only words of these rows are read."""
        used, at = np.unique(np.concatenate([left, right]), return_inverse=True)
        found: _Mask = _allowed(self.sides.guard(self.rows[used]), at[: len(left)], at[len(left) :])
        return found


@compiled()
def _allowed(guard: Guard, left: Ints, right: Ints) -> _Mask:
    found = np.empty(len(left), np.bool_)
    for i in range(len(left)):
        found[i] = allows_paraphrase(guard, left[i], right[i])
    return found


def whole_first(table: pl.DataFrame, sides: RowSides, part: Part) -> Sequence[pl.Series]:
    """Columns that rank all rows of the table, larger is better: see `wholeness`.

    Rows are cut or padded by what other answers to the same prompt have, or by their own text.
    """
    none = table.clear()
    rows, padded, cut = np.arange(table.height), *2 * (np.empty(0, np.int64),)
    if part == "both" and table.height:
        parts = same_prompt_parts((table, none), text_keys(sides.prompt)[1][rows])
        padded, cut = (parts.padded, parts.cut) if parts is not None else (padded, cut)
    counts = [np.diff(starts) for _, starts in TextShingles.of(table, part, 1, "word").batches()]
    words = np.concatenate([np.empty(0, np.int64), *counts])
    texts = text_of(table, "prompt" if part == "prompt" else "response")
    return wholeness(texts, words, padded, cut)
