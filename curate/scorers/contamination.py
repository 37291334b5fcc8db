"""Contamination: share of a held-out item's n-grams that occur in a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count
from siftune.curate.dedup.reference_rows import check_against, read_reference
from siftune.curate.dedup.shingles import shingle
from siftune.curate.files.source_spec import SourceOption, SourceSpec
from siftune.curate.rows.chat import Part, part_of, text_of

__all__ = ["Contamination"]

_SHORT: Final = 3  # items of fewer words occur in any text: only an equal text counts
_HASHES: Final = {"item": pl.UInt32, "hash": pl.UInt64}


@dataclass(frozen=True)
class Contamination:
    """The largest share of a held-out item's word ``ngram``-grams that a row contains, 0 to 1.

    Words are compared without case and punctuation (`curate.dedup.shingles`). An item of fewer than
    ``ngram`` words is one n-gram, all of it, so that short questions are found as well as long
    ones: 1 then means that the row contains the whole item. Items of one or two words count only if
    they are all the text of the row. ``contamination_item`` is the id of the item; of equal
    overlaps the first item's. A row without the text has null, a row that shares nothing 0 and no
    item. Paraphrases are not found: that takes embeddings.

    Not for paraphrases, which share no n-grams: compare embeddings (semantic_dedup with against).

    Options:
        against: Held-out rows, in any format that ingest reads: a file, a run folder, or in a
            recipe {path, format, map}.
        of: Text that is compared with the same text of the held-out rows: the prompt, the response,
            or both.
        ngram: Number of words of an n-gram; GPT-3 used 13, most later reports 8 to 13.
    """

    against: SourceOption
    of: Part = "prompt"
    ngram: Count = 8

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"contamination_overlap": pl.Float32, "contamination_item": pl.String}

    def __post_init__(self) -> None:
        check_against(self.against)
        if self.ngram < 1:
            raise UsageError(f"contamination: ngram: expected 1 or more, got {self.ngram}")

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Overlap of each row with every held-out item."""
        text = part_of(batch["messages"], self.of)
        found = pl.concat([self._overlaps(text, size) for size in self._items.sizes])
        best = found.sort("row", "overlap", "item", descending=[False, True, False])
        best = best.unique("row", keep="first")
        rows = pl.DataFrame({"row": pl.int_range(len(text), dtype=pl.UInt32, eager=True)})
        joined = rows.join(best, on="row", how="left", maintain_order="left")
        overlap = pl.when(pl.Series(text.is_not_null())).then(pl.col("overlap").fill_null(0))
        return joined.select(
            contamination_overlap=overlap.cast(pl.Float32),
            contamination_item=self._items.ids.gather(joined["item"]),
        )

    def _overlaps(self, text: pl.Series, size: int) -> pl.DataFrame:
        """Row, item and overlap wherever an item whose n-grams have ``size`` words is touched."""
        rows = _distinct(text, size).rename({"item": "row"})
        items = self._items.hashes.filter(pl.col("size") == size)
        if size < _SHORT:
            words = pl.Series("row", np.flatnonzero(_words(text) == size), dtype=pl.UInt32)
            rows = rows.join(words.to_frame(), on="row", how="semi")
        hits = rows.join(items, on="hash").group_by("row", "item").len("hits")
        shared = hits.join(self._items.totals, on="item")
        return shared.select("row", "item", overlap=pl.col("hits") / pl.col("total"))

    @cached_property
    def _items(self) -> _Items:
        table, _ = read_reference(self.against)
        path = SourceSpec.of(self.against, "against").path
        return _Items.of(table["id"], text_of(table, self.of), self.ngram, path)


@dataclass(frozen=True)
class _Items:
    """The held-out texts as n-grams: ``hashes`` (item, hash, size), ``totals`` (item, total)."""

    ids: pl.Series
    hashes: pl.DataFrame
    totals: pl.DataFrame

    @property
    def sizes(self) -> list[int]:
        """The lengths that n-grams of items have, in words."""
        return sorted(self.hashes["size"].unique().to_list())

    @classmethod
    def of(cls, ids: pl.Series, text: pl.Series, ngram: int, source: str) -> _Items:
        """The items of ``text``.

        Raises:
            UsageError: none of them has a word.
        """
        parts = list(_by_size(text, ngram))
        if not parts:
            raise UsageError(f"contamination: {source} holds no text to compare with")
        hashes = pl.concat(parts)
        return cls(ids, hashes, hashes.group_by("item").len("total"))


def _by_size(text: pl.Series, ngram: int) -> Iterator[pl.DataFrame]:
    """Distinct n-grams of each text: of ``ngram`` words, or of all where it has fewer."""
    sizes = np.minimum(_words(text), ngram)
    for size in range(1, ngram + 1):
        at = np.flatnonzero(sizes == size)
        if len(at):
            own = _distinct(text.gather(at), size)
            item = pl.Series(at, dtype=pl.UInt32).gather(own["item"])
            yield own.with_columns(item=item, size=pl.lit(size, pl.UInt32))


def _words(text: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    _, offsets = shingle(text, 1)
    return np.diff(offsets)


def _distinct(text: pl.Series, size: int) -> pl.DataFrame:
    """Number of the text and hash of each of its distinct n-grams of ``size`` words."""
    hashes, offsets = shingle(text, size)
    item = np.repeat(np.arange(len(text)), np.diff(offsets))
    return pl.DataFrame({"item": item, "hash": hashes}, schema=_HASHES).unique()
