"""semhash: `from_embeddings` and `self_deduplicate`, vectors given."""

from __future__ import annotations

from typing import Any

import numpy as np
from semhash import SemHash

from benchmarks.worker import Facts, Options, serve, timed


class _Given:
    """Stands for a model: the vectors are there."""

    def encode(self, inputs: Any, **options: Any) -> np.ndarray:
        raise RuntimeError("the vectors are given")


def work(options: Options) -> Facts:
    """Options: vectors (npy), out, threshold."""
    facts: Facts = {}
    vectors = np.load(options["vectors"])
    records = [str(row) for row in range(len(vectors))]
    with timed(facts):
        index = SemHash.from_embeddings(vectors, records, model=_Given())
        found = index.self_deduplicate(threshold=options["threshold"])
    gone = np.ones(len(vectors), bool)
    gone[[int(row) for row in found.selected]] = False
    np.save(options["out"], gone)
    return facts


if __name__ == "__main__":
    serve(work)
