"""DSIR: log importance weight of a text's hashed n-grams, target set against the pool itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.comparing.hashed_ngrams import hashed_ngrams
from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count, Positive, check_ranges
from siftune.curate.dedup.reference_rows import check_against, reference_rows
from siftune.curate.files.source_spec import SourceOption, SourceSpec
from siftune.curate.rows.chat import Part, part_of, text_of

__all__ = ["DSIR"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class DSIR:
    """Importance weights of Xie et al., arXiv:2302.03169, section 4: words and pairs of words.

    n-grams are hashed into buckets; ``p(b) = (count of b + smoothing) / (all + smoothing ·
    buckets)`` for the targets and for the rows that are scored, and of a row with counts c

    * ``dsir = Σ_b c_b (log p_target(b) - log p_pool(b))``, the log weight of the paper
    * ``dsir_mean``: the same for each n-gram, ``dsir / dsir_ngrams``
    * ``dsir_ngrams``: the number of n-grams

    The sum grows with length, so the largest weights are those of long rows; ``by: dsir_mean``
    ranks by wording. The paper draws in proportion to exp(dsir): that is `top_k` with a
    ``temperature`` of one over the standard deviation of ``dsir``, since its scores are in standard
    deviations; a larger one draws more evenly. The paper's code drops rows below 100 tokens (three
    of four rows of Alpaca) and does not smooth; here a short row has its weight, and a bucket that
    one side lacks is no infinity. The weight of a row depends on the other rows of the table. A row
    without a word has null.

    Not for meaning: only words count, so that a paraphrase of a target has no more than any row.

    Options:
        against: Target rows, in any format that ingest reads: a file, a run folder, or {path,
            format, map}.
        of: Text that is compared, in the rows and in the targets: the prompt, the response, or
            both.
        buckets: Number of buckets that n-grams are hashed into; the paper takes 10,000.
        smoothing: Count that is added to every bucket.
    """

    against: SourceOption
    of: Part = "both"
    buckets: Count = 10_000
    smoothing: Positive = 1.0

    whole: ClassVar = True
    needs: ClassVar = ("messages",)
    adds: ClassVar = {"dsir": pl.Float64, "dsir_mean": pl.Float64, "dsir_ngrams": pl.UInt32}

    def __post_init__(self) -> None:
        check_against(self.against)
        check_ranges(self)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Weigh all rows of the table."""
        row, bucket = hashed_ngrams(part_of(table["messages"], self.of), self.buckets)
        gain = self._target - self._logs(bucket)
        count = np.bincount(row, minlength=table.height)
        weight = np.bincount(row, gain[bucket], minlength=table.height)
        known = count > 0
        scores = {
            "dsir": np.where(known, weight, np.nan),
            "dsir_mean": np.where(known, weight / np.maximum(count, 1), np.nan),
            "dsir_ngrams": pl.Series(count).set(~pl.Series(known), None),
        }
        return pl.DataFrame(scores, schema=self.adds, nan_to_null=True)

    def _logs(self, bucket: Ints) -> Floats:
        """Log probability of each bucket."""
        counts = np.bincount(bucket, minlength=self.buckets) + self.smoothing
        found: Floats = np.log(counts / (len(bucket) + self.smoothing * self.buckets))
        return found

    @cached_property
    def _target(self) -> Floats:
        text = text_of(reference_rows(self.against), self.of)
        _, bucket = hashed_ngrams(text, self.buckets)
        if not len(bucket):
            path = SourceSpec.of(self.against, "against").path
            raise UsageError(f"dsir: {path} holds no text to compare with")
        return self._logs(bucket)
