"""datasketch: `MinHash.generator` and `MinHashLSH`, texts in memory."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
from datasketch import MinHash, MinHashLSH

from benchmarks.worker import Facts, Options, serve, timed

_WORDS = re.compile(r"\w+").findall


def work(options: Options) -> Facts:
    """Options: texts, out, threshold, permutations."""
    facts: Facts = {}
    texts = pl.read_parquet(options["texts"])["text"].to_list()
    gone = np.zeros(len(texts), bool)
    with timed(facts):
        index = MinHashLSH(threshold=options["threshold"], num_perm=options["permutations"])
        made = MinHash.generator(map(_grams, texts), num_perm=options["permutations"])
        for row, signature in enumerate(made):
            gone[row] = bool(index.query(signature))
            index.insert(row, signature, check_duplication=False)
    np.save(options["out"], gone)
    return facts


def _grams(text: str) -> list[bytes]:
    words = _WORDS(text.lower())
    if len(words) < 5:
        return [" ".join(words).encode()]
    grams = zip(words, words[1:], words[2:], words[3:], words[4:], strict=False)
    return [" ".join(gram).encode() for gram in grams]


if __name__ == "__main__":
    serve(work)
