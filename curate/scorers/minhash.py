"""MinHash signature of a conversation's text: what travels when near-duplicates are spread out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from curate.core.chat import Part, part_of
from curate.core.minhash import signatures
from curate.core.shingles import Unit, shingle

__all__ = ["MinHash"]


@dataclass(frozen=True)
class MinHash:
    """Signature of the ``ngram``-shingles of ``of`` (prompt, response or both).

    The share of equal positions of two signatures estimates the Jaccard similarity of the texts,
    with a standard error of at most ``1 / (2 √permutations)``. ``unit`` is word or char, as in
    `minhash_dedup`, which uses the column if it was made with its settings. A text without a word
    scores null.

    Options:
        of: which text: ``prompt``, ``response`` or ``both``.
        ngram: how many words (or characters) a shingle has.
        unit: ``word`` or ``char``.
        permutations: numbers in a signature.
        seed: another seed, other hashes.
    """

    of: Part = "both"
    ngram: int = 5
    unit: Unit = "word"
    permutations: int = 125
    seed: int = 0

    needs: ClassVar = ("messages",)

    def __post_init__(self) -> None:
        for name in ("ngram", "permutations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")

    @property
    def adds(self) -> Mapping[str, pl.DataType]:
        """``minhash``: an array of ``permutations`` 32-bit numbers."""
        return {"minhash": pl.Array(pl.UInt32, self.permutations)}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The signature of each conversation."""
        values, offsets = shingle(part_of(batch["messages"], self.of), self.ngram, self.unit)
        found = signatures(values, offsets, self.permutations, self.seed)
        column = pl.Series("minhash", found, dtype=self.adds["minhash"])
        present = pl.Series("present", np.diff(offsets) > 0)
        scores = pl.when(present).then(column).alias("minhash")
        return pl.select(scores).cast(pl.Schema(self.adds))
