"""Contamination: share of a held-out item's words that occur in a row, in the same order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.comparing.shingles import shingle
from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count
from siftune.curate.dedup.leaks import LONG, Items, items_of, overlaps
from siftune.curate.dedup.reference_rows import check_against, read_reference
from siftune.curate.files.source_spec import SourceOption, SourceSpec
from siftune.curate.rows.chat import Part, part_of, text_of

__all__ = ["Contamination"]


@dataclass(frozen=True)
class Contamination:
    """The largest share of a held-out item's words that a row contains, 0 to 1.

    Words are compared without case and punctuation (`comparing.shingles`). By default the prompt
    and the answer of a row are both searched for each item's prompt, and for its answer if that has
    13 words or more. A word counts if it is in an n-gram of ``ngram`` words that the row has too,
    and that at most 32 items have (coverage: Tülu 3, arXiv:2411.15124). Items of fewer than 13
    words, a third of the usual benchmarks', have too few n-grams: they count as 1 where a prompt or
    an answer contains the whole item (four words or more). A text that is nothing but the item,
    without one word of five or more or two of ten or more, or only five words or more in a row and
    at least half, counts by the share that it has.

    An overlap of 0.45 or more is a leak, also of half an item, with few false alarms
    (`curate/DESIGN.md` has figures).

    ``contamination_item`` is the id of the item; of equal shares the first item's. A row without
    the text has null, a row that shares nothing 0 and no item. Paraphrases are not found: for these
    use `semantic_dedup` with ``against``.

    Not for paraphrases, which share no n-grams: compare embeddings (semantic_dedup with against).

    Options:
        against: Held-out rows, in any format that ingest reads: a file, a run folder, or in a
            recipe {path, format, map}.
        of: Text that is searched: the prompt for the prompts of the held-out rows, the response for
            their responses, or each of both for all of these.
        ngram: Number of words of an n-gram.
    """

    against: SourceOption
    of: Part = "both"
    ngram: Count = 5

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"contamination_overlap": pl.Float32, "contamination_item": pl.String}

    def __post_init__(self) -> None:
        check_against(self.against)
        if self.ngram < 1:
            raise UsageError(f"contamination: ngram: expected 1 or more, got {self.ngram}")

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Overlap of each row with every held-out item."""
        share, item = np.zeros(batch.height), np.full(batch.height, -1)
        has_text = np.zeros(batch.height, np.bool_)
        for side in _sides(self.of):
            text = part_of(batch["messages"], side)
            has_text |= text.is_not_null().to_numpy()
            some, found = overlaps(*shingle(text, 1), self._items)
            numbers = self._numbers[found]
            nearer = (some > share) | ((some == share) & (found >= 0) & (numbers < item))
            share, item = np.where(nearer, some, share), np.where(nearer, numbers, item)
        ids = self._ids.gather(pl.Series(np.maximum(item, 0)))
        return pl.select(
            contamination_overlap=pl.when(pl.Series(has_text)).then(
                pl.Series(share, dtype=pl.Float32)
            ),
            contamination_item=pl.when(pl.Series(item >= 0)).then(ids),
        )

    @cached_property
    def _table(self) -> pl.DataFrame:
        return read_reference(self.against)[0]

    @property
    def _ids(self) -> pl.Series:
        return self._table["id"]

    @cached_property
    def _texts(self) -> tuple[pl.Series, np.ndarray]:
        """The texts to search for, and the number of the item of each."""
        parts = [text_of(self._table, side).alias("text") for side in _sides(self.of)]
        if self.of == "both":
            _, offsets = shingle(parts[1], 1)
            long = pl.Series(np.diff(offsets) >= LONG)
            parts[1] = parts[1].to_frame().select(pl.when(long).then("text")).to_series()
        return pl.concat(parts), np.tile(np.arange(self._table.height), len(parts))

    @property
    def _numbers(self) -> np.ndarray:
        return self._texts[1]

    @cached_property
    def _items(self) -> Items:
        words, offsets = shingle(self._texts[0], 1)
        if not len(words):
            path = SourceSpec.of(self.against, "against").path
            raise UsageError(f"contamination: {path} holds no text to compare with")
        return items_of(words, offsets, self.ngram)


def _sides(of: Part) -> tuple[Part, ...]:
    return ("prompt", "response") if of == "both" else (of,)
