"""Speed limits of this machine on one thread: matrix products, hashing, copying."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import torch

from benchmarks.worker import Facts, Options, cpu_seconds, serve, timed
from siftune.curate.vectors.bert import Linear

_SHAPES = {
    "semantic": ((1024, 384, 4096),),
    "minilm": ((256, 384, 1152), (256, 384, 384), (256, 384, 1536), (256, 1536, 384)),  # a layer's
    "square": ((4096, 4096, 4096),),
}
_SECONDS = 1.0


def work(options: Options) -> Facts:
    """Options: seconds for each."""
    facts: Facts = {}
    seconds = float(options.get("seconds", _SECONDS))
    torch.set_num_threads(1)
    with timed(facts):
        for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            for where, shapes in _SHAPES.items():
                facts[f"gemm_{name}_{where}_gflops"] = _gemm(shapes, kind, seconds)
        source, target = np.ones(1 << 28, np.uint8), np.empty(1 << 28, np.uint8)
        facts["copy_gb_s"] = _rate(lambda: np.copyto(target, source), len(source), seconds) / 1e9
        text = pl.Series(["a text of some eight hundred characters " * 20] * 200_000)
        size = int(text.str.len_bytes().sum())
        facts["hash_gb_s"] = _rate(lambda: text.hash(), size, seconds) / 1e9
    return facts


def _gemm(shapes: tuple[tuple[int, int, int], ...], kind: torch.dtype, seconds: float) -> float:
    """The faster of torch's own product and oneDNN's with packed weights, which torch carries."""
    pairs = [(torch.randn(n, d).to(kind), torch.randn(m, d).to(kind)) for n, d, m in shapes]
    packed = [(left, Linear(right)) for left, right in pairs]
    flops = sum(2 * n * d * m for n, d, m in shapes)

    def by_torch() -> None:
        for left, right in pairs:
            torch.nn.functional.linear(left, right)

    def by_onednn() -> None:
        for left, layer in packed:
            layer(left)

    with torch.inference_mode():
        return max(_rate(work, flops, seconds / 2) for work in (by_torch, by_onednn)) / 1e9


def _rate(work: Callable[[], object], amount: float, seconds: float) -> float:
    """The best of several stretches: amount a CPU second."""
    work()
    best, spent = 0.0, 0.0
    while spent < seconds:
        start, calls = cpu_seconds(), 0
        while cpu_seconds() - start < seconds / 5:
            work()
            calls += 1
        took = cpu_seconds() - start
        spent += took
        best = max(best, amount * calls / took)
    return best


if __name__ == "__main__":
    serve(work)
