"""apricot's and submodlib's facility location on the same non-negative cosines."""

from __future__ import annotations

import numpy as np

from benchmarks.worker import Facts, Options, serve, timed


def work(options: Options) -> Facts:
    """Options: vectors (npy), out, k, way (apricot, submodlib)."""
    facts: Facts = {}
    vectors = np.load(options["vectors"])
    pick = {"apricot": _apricot, "submodlib": _submodlib}[options["way"]]
    picks = pick(vectors, options["k"], facts)
    np.save(options["out"], np.asarray(picks, np.int64))
    return facts


def _apricot(vectors: np.ndarray, k: int, facts: Facts) -> list[int]:
    from apricot import FacilityLocationSelection

    few = np.eye(64)
    FacilityLocationSelection(4, metric="precomputed", optimizer="lazy").fit(few)  # compiles
    with timed(facts):
        kernel = np.maximum(vectors @ vectors.T, 0).astype(np.float64)
        found = FacilityLocationSelection(k, metric="precomputed", optimizer="lazy").fit(kernel)
    return [int(row) for row in found.ranking]


def _submodlib(vectors: np.ndarray, k: int, facts: Facts) -> list[int]:
    from submodlib import FacilityLocationFunction

    with timed(facts):
        function = FacilityLocationFunction(
            n=len(vectors), mode="dense", data=vectors, metric="cosine"
        )
        picked = function.maximize(
            budget=k,
            optimizer="LazyGreedy",
            stopIfZeroGain=False,
            stopIfNegativeGain=False,
            verbose=False,
        )
    return [row for row, _ in picked]


if __name__ == "__main__":
    serve(work)
