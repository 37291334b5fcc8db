"""MinHash signature of a conversation's text, to find near-duplicates without the texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.comparing.shingles import Hashes, Offsets, Unit, shingle
from siftune.curate.core.ranges import Count, Seed, check_ranges
from siftune.curate.dedup.minhash import Signatures, signatures, signatures_on
from siftune.curate.rows.chat import Part, only_calls, part_of
from siftune.curate.vectors.nearest_centers import Device, on_gpu

__all__ = ["MinHash"]


@dataclass(frozen=True)
class MinHash:
    """Signature of the ``ngram``-shingles of ``of`` (prompt, response or both).

    The share of equal positions of two signatures estimates the Jaccard similarity of the texts,
    with a standard error of at most ``1 / (2 √permutations)``. ``unit`` is word or char, as in
    `minhash_dedup`, which uses the column if it was made with its settings. Texts with different
    tool calls have similarity 0. A text without a word scores null.

    Not for a single deduplication, which needs no stored signatures: take minhash_dedup alone.

    Options:
        of: Text that is hashed: the prompt, the response, or both.
        ngram: Number of words (or characters) of an n-gram.
        unit: Unit of the n-grams.
        permutations: Number of hashes of a signature.
        seed: Seed of the hashes.
        device: Device to compute on, with the same result: cpu, cuda, or a GPU where that is
            faster (auto).
    """

    of: Part = "both"
    ngram: Count = 5
    unit: Unit = "word"
    permutations: Count = 125
    seed: Seed = 0
    device: Device = "auto"

    needs: ClassVar = ("messages",)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def adds(self) -> Mapping[str, pl.DataType]:
        """``minhash``: an array of ``permutations`` 32-bit numbers."""
        return {"minhash": pl.Array(pl.UInt32, self.permutations)}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The signature of each conversation."""
        messages = batch["messages"]
        called = only_calls(messages)
        calls = None if called is None else part_of(called, self.of)
        values, offsets = shingle(part_of(messages, self.of), self.ngram, self.unit, calls)
        found = self._sign(values, offsets)
        column = pl.Series("minhash", found, dtype=self.adds["minhash"])
        present = pl.Series("present", np.diff(offsets) > 0)
        scores = pl.when(present).then(column).alias("minhash")
        return pl.select(scores).cast(pl.Schema(self.adds))

    def _sign(self, values: Hashes, offsets: Offsets) -> Signatures:
        if not on_gpu(self.device, len(values) * self.permutations):
            return signatures(values, offsets, self.permutations, self.seed)
        return signatures_on("cuda", values, offsets, self.permutations, self.seed)
