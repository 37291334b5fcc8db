"""Drop near-duplicate texts: exact Jaccard similarity of word n-grams, each with its survivor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from curate.core.chat import Part
from curate.core.columns import base_column, values
from curate.core.content import text_of
from curate.core.cover import cover_sets
from curate.core.decisions import tie_order
from curate.core.duplicates import verdicts
from curate.core.jaccard import candidates, exact_ratio, prefixes
from curate.core.shingles import Hashes, Offsets, Unit, shingle

__all__ = ["MinHashDedup"]

_ROWS = 1 << 16  # rows whose text is copied out of the table at a time


@dataclass(frozen=True)
class MinHashDedup:
    """Near-duplicates by Jaccard similarity of n-gram sets, under the cover rule.

    From best to worst, a row goes if a row kept before it is at least ``threshold`` similar. So
    every dropped row names such a survivor, and no two survivors are that similar.

    ``threshold`` is inclusive. ``part`` is what is compared: prompt, response or both. ``ngram``
    words (or characters, ``unit``) make a shingle; a shorter text is one shingle. ``by`` is a
    score column whose best rows survive (``descending``: high is good), then the smaller digest. A
    row without a word in ``part`` is kept as ``not_comparable``.
    """

    threshold: float = 0.7
    part: Part = "both"
    ngram: int = 5
    unit: Unit = "word"
    by: str | None = None
    descending: bool = True
    against: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold: expected above 0 and at most 1, got {self.threshold}")
        if self.ngram < 1:
            raise ValueError(f"ngram: expected at least 1, got {self.ngram}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The content, and the column that ranks."""
        return ("content", *([base_column(self.by)] if self.by else []))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on each row; ``detail`` of a dropped one is ``{"similarity", "survivor"}``."""
        threshold = exact_ratio(self.threshold)
        reference = self._reference
        parts = list(self._shingles(table))
        empty = np.concatenate([np.zeros(0, bool), *(np.diff(starts) == 0 for _, starts in parts)])
        parts += self._shingles(reference)
        mask, sets = candidates(parts, threshold)
        del parts
        rows = np.flatnonzero(mask)
        own = int(np.searchsorted(rows, table.height))
        order = np.concatenate([np.arange(own, len(rows)), self._order(table[rows[:own]])])
        fixed = len(rows) - own
        cover = cover_sets(sets, prefixes(sets, threshold), order, threshold, fixed)
        dropped = np.flatnonzero(cover.survivor >= 0)
        return verdicts(
            table["id"],
            rows[dropped],
            rows[cover.survivor[dropped]],
            cover.similarity[dropped],
            "near_duplicate",
            (empty, "not_comparable"),
            reference["id"],
        )

    def _shingles(self, table: pl.DataFrame) -> Iterator[tuple[Hashes, Offsets]]:
        for start in range(0, table.height, _ROWS):
            text = text_of(table[start : start + _ROWS], self.part)
            yield shingle(text, self.ngram, self.unit)

    def _order(self, table: pl.DataFrame) -> np.ndarray:
        by = [values(table, self.by)] if self.by else []
        return tie_order(table, *by, descending=self.descending)

    @cached_property
    def _reference(self) -> pl.DataFrame:
        if self.against is None:
            return pl.DataFrame(schema={"id": pl.String})
        return pl.read_parquet(Path(self.against))
