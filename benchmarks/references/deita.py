"""DEITA's repr filter as published (hkust-nlp/deita, selection/filter/base.py; arXiv:2312.15685).

The vectors of all kept rows are gathered anew and normalised at every step; a batch is compared
with them and within itself. Written from the published steps, not copied.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.worker import Facts, Options, serve, timed

_CHUNK = 100_000


def work(options: Options) -> Facts:
    """Options: vectors (npy, best first), threshold, batch_size, out."""
    facts: Facts = {}
    vectors = np.load(options["vectors"]).astype(np.float64)  # a column of lists, read by numpy
    with timed(facts), torch.inference_mode():
        kept = _filter(vectors, options["threshold"], options["batch_size"])
    np.save(options["out"], np.asarray(kept, np.int64))
    return facts


def _filter(vectors: np.ndarray, threshold: float, batch_size: int) -> list[int]:
    kept = [0]
    for start in range(1, len(vectors), batch_size):
        batch = torch.tensor(vectors[start : start + batch_size], dtype=torch.float32)
        similar = (_cosines(batch, vectors[kept]) > threshold).any(dim=1)
        mutual = _cosines(batch, batch.numpy()).tril(-1)
        similar |= (mutual > threshold).any(dim=1)
        kept += (torch.arange(start, start + len(batch))[~similar]).tolist()
    return kept


def _cosines(batch: torch.Tensor, others: np.ndarray) -> torch.Tensor:
    found = torch.zeros(len(batch), len(others))
    for start in range(0, len(others), _CHUNK):
        chunk = torch.tensor(others[start : start + _CHUNK], dtype=torch.float32)
        left = batch / batch.norm(dim=1)[:, None]
        right = chunk / chunk.norm(dim=1)[:, None]
        found[:, start : start + len(chunk)] = left @ right.t()
    return found


if __name__ == "__main__":
    serve(work)
