"""datatrove: its four minhash stages in memory, with its own words or those at whitespace.

Its own are spaCy's for English; at whitespace is the quickest of the ways it has to split a text.
Its own 14 buckets of 8 hashes and 64-bit hashes; all four stages are in its clock, with the files
that they write for one another. Most of it goes into simplifying texts and hashing n-grams, not
into signatures: numpy took 3 to 4 ns for each of the remainders of which these are made.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from datatrove.data import Document
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import WordTokenizer, load_word_tokenizer

from benchmarks.worker import Facts, Options, serve, timed


class _Whitespace(WordTokenizer):  # type: ignore[misc]
    """Words as `str.split` finds them."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        raise NotImplementedError("minhash asks for words only")

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError("minhash asks for words only")


def work(options: Options) -> Facts:
    """Options: texts, out, words (default, whitespace)."""
    facts: Facts = {}
    texts = pl.read_parquet(options["texts"])["text"].to_list()
    folder = Path(tempfile.mkdtemp())
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    signatures, buckets, removed = (str(folder / name) for name in ("sig", "buckets", "removed"))
    default = load_word_tokenizer(Languages.english)
    words = _Whitespace() if options["words"] == "whitespace" else default
    default.word_tokenize("loaded once")
    with timed(facts):
        sign = MinhashDedupSignature(signatures, config, words)
        sign.run(_documents(texts), 0, 1)
        for bucket in range(config.num_buckets):
            MinhashDedupBuckets(signatures, buckets, config=config).run(
                None, bucket, config.num_buckets
            )
        MinhashDedupCluster(buckets, removed, config).run(None, 0, 1)
        kept = [
            document.id for document in MinhashDedupFilter(removed).run(_documents(texts), 0, 1)
        ]
    gone = np.ones(len(texts), bool)
    gone[np.asarray(kept, int)] = False
    np.save(options["out"], gone)
    shutil.rmtree(folder)
    return facts


def _documents(texts: list[str]) -> object:
    return (Document(text=text, id=str(row)) for row, text in enumerate(texts))


if __name__ == "__main__":
    serve(work)
