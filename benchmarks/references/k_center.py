"""k-center greedy one step at a time: a product with the newest centre, then the farthest row."""

from __future__ import annotations

import numpy as np

from benchmarks.worker import Facts, Options, serve, timed


def work(options: Options) -> Facts:
    """Options: vectors (npy), first, k, way (torch, numpy, exact), out."""
    facts: Facts = {}
    vectors = np.load(options["vectors"])
    steps = {"torch": _torch, "numpy": _numpy, "exact": _exact}[options["way"]]
    steps(vectors, options["first"], 2, {})  # load what is loaded once
    picks = steps(vectors, options["first"], options["k"], facts)
    np.save(options["out"], np.asarray(picks, np.int64))
    return facts


def _torch(vectors: np.ndarray, first: int, k: int, facts: Facts) -> list[int]:
    import torch

    with timed(facts), torch.inference_mode():
        units = torch.nn.functional.normalize(torch.from_numpy(vectors))
        picks, gap = [first], 1 - units @ units[first]
        while len(picks) < k:
            picks.append(int(torch.argmax(gap)))
            gap = torch.minimum(gap, 1 - units @ units[picks[-1]])
    return picks


def _numpy(vectors: np.ndarray, first: int, k: int, facts: Facts) -> list[int]:
    with timed(facts):
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        picks, gap = [first], np.linalg.norm(units - units[first], axis=1)
        while len(picks) < k:
            picks.append(int(np.argmax(gap)))
            gap = np.minimum(gap, np.linalg.norm(units - units[picks[-1]], axis=1))
    return picks


def _exact(vectors: np.ndarray, first: int, k: int, facts: Facts) -> list[int]:
    """In float64, on vectors rounded so that products and sums of them are exact."""
    with timed(facts):
        wide = vectors.astype(np.float64)
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        units = np.rint(wide * 2**24) / 2**24
        halves = (units * units).sum(axis=1) / 2
        picks, gap = [first], halves + halves[first] - units @ units[first]
        while len(picks) < k:
            picks.append(int(np.argmax(gap)))
            gap = np.minimum(gap, halves + halves[picks[-1]] - units @ units[picks[-1]])
    return picks


if __name__ == "__main__":
    serve(work)
