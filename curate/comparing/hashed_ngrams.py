"""Words and pairs of words of texts, hashed into buckets; the n-grams of DSIR, arXiv:2302.03169."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.comparing.shingles import shingle

__all__ = ["hashed_ngrams"]


def hashed_ngrams(
    text: pl.Series, buckets: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The row and the bucket of each n-gram, in the order of rows."""
    words, of_words = shingle(text, 1)
    pairs, of_pairs = shingle(text, 2)
    counts = np.diff(of_words)
    sizes = np.stack([counts, np.maximum(counts - 1, 0)], axis=1)
    several = np.repeat(counts > 1, np.diff(of_pairs))  # one word alone is no pair
    row = np.concatenate(
        [np.repeat(np.arange(len(counts)), one) for one in (sizes[:, 0], sizes[:, 1])]
    )
    hashes = np.concatenate([words, pairs[several]])
    order = np.argsort(row, kind="stable")
    return row[order], (hashes[order] % np.uint64(buckets)).astype(np.int64)
