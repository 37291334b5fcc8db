"""semhash: `from_embeddings` and `self_deduplicate`, vectors given."""

from __future__ import annotations

from typing import Any

import numpy as np
from semhash import SemHash

from benchmarks.worker import Facts, Options, serve, timed


class _Given:
    """Replaces a model: the vectors are computed already."""

    def encode(self, inputs: Any, **options: Any) -> np.ndarray:
        raise RuntimeError("the vectors are given")


def work(options: Options) -> Facts:
    """Options: vectors (npy), out, threshold."""
    facts: Facts = {}
    vectors = np.load(options["vectors"])
    _kept(vectors[:600], options["threshold"])  # loads what a process loads once
    with timed(facts):
        kept = _kept(vectors, options["threshold"])
    gone = np.ones(len(vectors), bool)
    gone[kept] = False
    np.save(options["out"], gone)
    return facts


def _kept(vectors: np.ndarray, threshold: float) -> list[int]:
    records = [str(row) for row in range(len(vectors))]
    index = SemHash.from_embeddings(vectors, records, model=_Given())
    return [int(row) for row in index.self_deduplicate(threshold=threshold).selected]


if __name__ == "__main__":
    serve(work)
