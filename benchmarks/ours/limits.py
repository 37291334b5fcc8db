"""What this machine can do on one thread: matrix products, hashing, copying."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import torch

from benchmarks.worker import Facts, Options, cpu_seconds, serve, timed

_SEMANTIC = ((1024, 384, 4096),)
_MINILM = ((2048, 384, 384), (2048, 384, 1536), (2048, 1536, 384))
_MINILM_TIMES = (4, 1, 1)  # of each in a layer
_SECONDS = 1.0


def work(options: Options) -> Facts:
    """Options: seconds for each."""
    facts: Facts = {}
    seconds = float(options.get("seconds", _SECONDS))
    torch.set_num_threads(1)
    with timed(facts):
        for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            facts[f"gemm_{name}_semantic_gflops"] = _gemm(_SEMANTIC, (1,), kind, seconds)
            facts[f"gemm_{name}_minilm_gflops"] = _gemm(_MINILM, _MINILM_TIMES, kind, seconds)
        source, target = np.ones(1 << 28, np.uint8), np.empty(1 << 28, np.uint8)
        facts["copy_gb_s"] = _rate(lambda: np.copyto(target, source), len(source), seconds) / 1e9
        text = pl.Series(["a text of some eight hundred characters " * 20] * 200_000)
        size = int(text.str.len_bytes().sum())
        facts["hash_gb_s"] = _rate(lambda: text.hash(), size, seconds) / 1e9
    return facts


def _gemm(
    shapes: tuple[tuple[int, int, int], ...],
    times: tuple[int, ...],
    kind: torch.dtype,
    seconds: float,
) -> float:
    pairs = [(torch.randn(n, d).to(kind), torch.randn(m, d).to(kind)) for n, d, m in shapes]
    flops = sum(2 * n * d * m * count for (n, d, m), count in zip(shapes, times, strict=True))

    def multiply() -> None:
        for (left, right), count in zip(pairs, times, strict=True):
            for _ in range(count):
                torch.nn.functional.linear(left, right)

    return _rate(multiply, flops, seconds) / 1e9


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
