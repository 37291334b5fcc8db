"""gaoya: insert and query `MinHashStringIndex`, texts in memory."""

from __future__ import annotations

import gaoya
import numpy as np
import polars as pl

from benchmarks.worker import Facts, Options, serve, timed


def work(options: Options) -> Facts:
    """Options: texts, out, threshold, bands, band_size."""
    facts: Facts = {}
    texts = pl.read_parquet(options["texts"])["text"].to_list()
    index = gaoya.minhash.MinHashStringIndex(
        hash_size=32,
        jaccard_threshold=options["threshold"],
        num_bands=options["bands"],
        band_size=options["band_size"],
        analyzer="word",
        lowercase=True,
        ngram_range=(5, 5),
    )
    gone = np.zeros(len(texts), bool)
    with timed(facts):
        for row, text in enumerate(texts):
            index.insert_document(row, text)
        for row, text in enumerate(texts):
            gone[row] = any(other < row for other in index.query(text))
    np.save(options["out"], gone)
    return facts


if __name__ == "__main__":
    serve(work)
