"""Contamination: share of a held-out item's words that occur in a row, in the same order.

With an embedding model also the cosine of a row's prompt to the nearest item, for paraphrases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final, Literal

import numpy as np
import polars as pl

from siftune.curate.comparing.shingles import shingle
from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import announce
from siftune.curate.core.ranges import Count
from siftune.curate.dedup.benchmark_items import check_items, read_items
from siftune.curate.dedup.leaks import LONG, Items, items_of, overlaps
from siftune.curate.dedup.reference_rows import check_against
from siftune.curate.files.source_spec import SourceOption, SourceSpec
from siftune.curate.rows.chat import Part, part_of
from siftune.curate.vectors.embed import Embedder
from siftune.curate.vectors.unit_vectors import on_grid

__all__ = ["Contamination"]

_WORDS: Final = {"contamination_overlap": pl.Float32, "contamination_item": pl.String}
_VECTORS: Final = {"contamination_cosine": pl.Float32, "contamination_cosine_item": pl.String}
_CHOICES: Final = "with_choices"
_BLOCK: Final = 4096  # items compared at a time


@dataclass(frozen=True)
class Contamination:
    """The largest share of a held-out item's words that a row contains, 0 to 1.

    Words are compared without case and punctuation (`comparing.shingles`). By default the prompt
    and the answer of a row are both searched for each item's prompt, and for its answer if that has
    13 words or more. A word counts if it is in an n-gram of ``ngram`` words that the row has too,
    and that at most 32 items have (coverage: Tülu 3, arXiv:2411.15124). Items of fewer than 13
    words, a third of the usual benchmarks', have too few n-grams: they count as 1 where a prompt or
    an answer contains the whole item (four words or more). A text that is nothing but the item,
    without one word of five or more or two of ten or more, or only a run of at least half of its
    words (five or more, or three or more that begin or end it), counts by the share that it has.

    An overlap of 0.45 or more is a leak, also of half an item, with few false alarms
    (`curate/DESIGN.md` has figures).

    ``contamination_item`` is the id of the item; of equal shares the first item's. A row without
    the text has null, a row that shares nothing 0 and no item.

    Benchmark files may have any layout, each file of a folder its own: where no format fits,
    questions are found by their keys, with their choices (`curate.dedup.benchmark_items`). Records
    without a question are counted in a line on stderr.

    Paraphrases share no n-grams. With ``model`` the prompt of each row is embedded too, and
    ``contamination_cosine`` is its largest cosine to the prompt of an item, which is
    ``contamination_cosine_item``: a list to look through from the top, since rows about one subject
    are as near as paraphrases. With ``of: response`` these are responses.

    Not for paraphrases by the overlap alone, which share no n-grams: name a model.

    Options:
        against: Held-out items: a file or folder in any layout, a run folder, or in a recipe
            {path, format, map}.
        of: Text that is searched: the prompt for the prompts of the held-out rows, the response for
            their responses, or each of both for all of these.
        ngram: Number of words of an n-gram.
        model: Embedding model by which paraphrases are looked for, as in the scorer embedding
            (minilm is the packaged one); none compares words only.
        device: Device of the model: auto, cpu, cuda, or cuda:N.
        cache: Folder in which embeddings are stored by content.
    """

    against: SourceOption
    of: Part = "both"
    ngram: Count = 5
    model: str | None = None
    device: str = "auto"
    cache: str | None = None

    needs: ClassVar = ("messages",)

    def __post_init__(self) -> None:
        check_against(self.against)
        if self.ngram < 1:
            raise UsageError(f"contamination: ngram: expected 1 or more, got {self.ngram}")

    @property
    def adds(self) -> Mapping[str, type[pl.DataType]]:
        """Columns that are added; the cosine only with a model."""
        return _WORDS if self.model is None else {**_WORDS, **_VECTORS}

    def check_reference(self) -> None:
        """Check the first records of the items before a run.

        Raises:
            UsageError: an unknown format.
            DataError: they cannot be read, or have no question.
        """
        check_items(self.against)

    def describe(self) -> dict[str, Any]:
        """The resolved options, for keys and manifests: the model by its content."""
        return {} if self.model is None else self._embedder.describe()

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Overlap of each row with every held-out item, and cosine to the nearest one."""
        found = self._overlaps(batch)
        return found if self.model is None else found.hstack(self._cosines(batch))

    def _overlaps(self, batch: pl.DataFrame) -> pl.DataFrame:
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

    def _cosines(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The largest cosine to an item, of equal ones the first item's; null without a text."""
        texts = part_of(batch["messages"], self._embedded)
        units, usable = self._units(texts)
        items, numbers = self._item_units
        cosine, nearest = np.full(len(units), -np.inf), np.zeros(len(units), np.int64)
        for start in range(0, len(items), _BLOCK):
            # sums of products on the grid are exact in float64, so batches do not matter
            products = units @ items[start : start + _BLOCK].T
            best = products.argmax(axis=1)
            here = products[np.arange(len(units)), best]
            nearer = here > cosine
            cosine = np.where(nearer, here, cosine)
            nearest = np.where(nearer, numbers[start + best], nearest)
        scored = pl.Series(usable & (len(items) > 0))
        return pl.select(
            contamination_cosine=pl.when(scored).then(pl.Series(cosine, dtype=pl.Float32)),
            contamination_cosine_item=pl.when(scored).then(self._ids.gather(nearest)),
        )

    def _units(self, texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of length 1 in float64, and which texts have one."""
        present = texts.is_not_null().to_numpy()
        vectors = np.full((len(texts), self._embedder.dimension), np.nan, dtype=np.float32)
        vectors[present] = self._embedder.encode(texts.drop_nulls().to_list()).vectors
        units, usable = on_grid(vectors)
        return units.astype(np.float64), usable

    @cached_property
    def _item_units(self) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of the items, and their numbers."""
        texts = self._table[self._embedded]
        texts = texts if self._embedded == "response" else texts.fill_null(self._table[_CHOICES])
        units, usable = self._units(texts)
        return units[usable], np.flatnonzero(usable)

    @property
    def _embedded(self) -> Literal["prompt", "response"]:
        return "response" if self.of == "response" else "prompt"

    @property
    def _embedder(self) -> Embedder:
        return Embedder(self.model, "auto", self.device, "cut", self.cache)

    @cached_property
    def _table(self) -> pl.DataFrame:
        items, unread = read_items(self.against)
        if unread:
            path = SourceSpec.of(self.against, "against").path
            announce(f"contamination: {unread} records of {path} have no question: not looked for")
        return items

    @property
    def _ids(self) -> pl.Series:
        return self._table["id"]

    @cached_property
    def _texts(self) -> tuple[pl.Series, np.ndarray]:
        """The texts to search for, and the number of the item of each."""
        parts = [self._table[side].alias("text") for side in _sides(self.of)]
        if self.of == "both":
            _, offsets = shingle(parts[1], 1)
            long = pl.Series(np.diff(offsets) >= LONG)
            parts[1] = parts[1].to_frame().select(pl.when(long).then("text")).to_series()
        if self.of != "response" and self._table[_CHOICES].null_count() < self._table.height:
            parts.append(self._table[_CHOICES].alias("text"))
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
