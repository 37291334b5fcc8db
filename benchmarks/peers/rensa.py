"""rensa: `RMinHashDeduplicator.add_pairs` over word 5-grams, texts in memory."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import rensa

from benchmarks.worker import Facts, Options, serve, timed

_WORDS = re.compile(r"\w+").findall


def work(options: Options) -> Facts:
    """Options: texts, out, threshold, permutations, bands."""
    facts: Facts = {}
    texts = pl.read_parquet(options["texts"])["text"].to_list()
    with timed(facts):
        index = rensa.RMinHashDeduplicator(
            threshold=options["threshold"],
            num_perm=options["permutations"],
            use_lsh=True,
            num_bands=options["bands"],
        )
        keep = index.add_pairs((str(row), _grams(text)) for row, text in enumerate(texts))
    np.save(options["out"], ~np.asarray(keep, bool))
    return facts


def _grams(text: str) -> list[str]:
    words = _WORDS(text.lower())
    if len(words) < 5:
        return [" ".join(words)]
    grams = zip(words, words[1:], words[2:], words[3:], words[4:], strict=False)
    return list(map(" ".join, grams))


if __name__ == "__main__":
    serve(work)
