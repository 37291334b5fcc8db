"""Texts to unit vectors with the packaged all-MiniLM-L6-v2: our embedder, or the peer's default."""

from __future__ import annotations

import numpy as np
import polars as pl

from benchmarks.worker import Facts, Options, serve, timed
from siftune.curate.vectors.embed import Embedder
from siftune.curate.vectors.embed_model import find_model

_WARM = ["a few words to load what is loaded once"] * 4


def work(options: Options) -> Facts:
    """Options: texts (Parquet), way (bf16, fp32, sentence-transformers), out (npy), cache."""
    facts: Facts = {}
    texts = pl.read_parquet(options["texts"])["text"].to_list()
    if options["way"] == "sentence-transformers":
        vectors = _theirs(texts, facts)
    else:
        embedder = Embedder(dtype=options["way"], device="cpu", cache=options.get("cache"))
        Embedder(dtype=options["way"], device="cpu").encode(_WARM)
        with timed(facts):
            vectors = embedder.encode(texts).vectors
    np.save(options["out"], vectors)
    return facts


def _theirs(texts: list[str], facts: Facts) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(find_model(None)), device="cpu", local_files_only=True)
    model.encode(_WARM, show_progress_bar=False)
    facts["window"] = model.max_seq_length
    with timed(facts):
        found = model.encode(texts, show_progress_bar=False, normalize_embeddings=True)
    return np.asarray(found, np.float32)


if __name__ == "__main__":
    serve(work)
