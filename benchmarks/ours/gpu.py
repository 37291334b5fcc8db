"""One part of `benchmarks.gpu` in a process of its own, on a GPU or, to try it out, on the CPU."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks import made_up, made_up_models
from benchmarks.worker import Facts, Options, serve, timed
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.ifd import IFD
from siftune.curate.selectors.k_center import KCenter
from siftune.curate.selectors.semantic_dedup import SemanticDedup
from siftune.curate.text.language_model import CausalLM, TokenRow
from siftune.curate.vectors.embed import Embedder
from siftune.curate.vectors.encoder import load_encoder

_WIDTH = 384
_SHAPES = {
    "search": ((1024, _WIDTH, 65_536),),
    "minilm": ((8192, 384, 1152), (8192, 384, 384), (8192, 384, 1536), (8192, 1536, 384)),
    "square": ((8192, 8192, 8192),),
}
_SECONDS = 0.5


def limits(options: Options) -> Facts:
    """Matrix products (TFLOP/s) in the shapes of the parts, and copying (GB/s read and written)."""
    device, shrink, facts = options["device"], 1 if options["full"] else 16, Facts()
    for name, shapes in _SHAPES.items():
        for number, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            facts[f"{name}_{number}_tflops"] = _gemm(device, shapes, kind, shrink) / 1e12
    source = torch.zeros((1 << 30) // shrink, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = _least(lambda: target.copy_(source), device)
    facts["copy_gb_s"] = 2 * len(source) / seconds / 1e9
    return facts


def _gemm(device: str, shapes: Any, kind: torch.dtype, shrink: int) -> float:
    pairs = [
        (
            torch.randn(n // shrink, d, device=device).to(kind),
            torch.randn(m if m < 4096 else m // shrink, d, device=device).to(kind),
        )
        for n, d, m in shapes
    ]
    flops = sum(2 * len(left) * len(right) * left.shape[1] for left, right in pairs)
    return flops / _least(lambda: [left @ right.T for left, right in pairs], device)


def _least(work: Callable[[], object], device: str) -> float:
    """The least seconds of a call, waited for."""
    best, end = np.inf, time.perf_counter() + _SECONDS
    work()
    while time.perf_counter() < end:
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return float(best)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def embedding(options: Options) -> Facts:
    """Texts to vectors by the shape of MiniLM; some of them in fp32 on the CPU, too."""
    facts, device = Facts(), options["device"]
    texts = made_up.texts(options["rows"], 4, np.random.default_rng(1)).to_list()
    with tempfile.TemporaryDirectory() as folder:
        model = made_up_models.encoder(Path(folder), small=not options["full"])
        embedder = Embedder(str(model), device=device)
        embedder.encode(texts[:64])  # loads what is loaded once
        with timed(facts):
            vectors = embedder.encode(texts).vectors
        encoder = load_encoder(model, "auto", device)
        with timed(facts, "tokenizer_"):
            windows = encoder.tokenize(texts)
        exact = Embedder(str(model), "fp32", "cpu").encode(texts[: options["checked"]]).vectors
    facts["tokens"] = sum(len(ids) for text in windows for ids in text[:1])
    layers = 6 if options["full"] else 2
    facts["flops"] = facts["tokens"] * 2 * layers * (4 * 384 * 384 + 2 * 384 * 1536)
    facts["least_cosine"] = float((vectors[: len(exact)] * exact).sum(1).min())
    return facts


def _vectors(rows: int) -> pl.DataFrame:
    """A table of unit vectors in clusters, a tenth of them near copies of others."""
    random = np.random.default_rng(2)
    centers = random.standard_normal((max(1, rows // 500), _WIDTH), np.float32)
    found = random.standard_normal((rows, _WIDTH), np.float32)
    found += centers[random.integers(len(centers), size=rows)]
    copies = rows // 10
    noise = 0.2 * random.standard_normal((copies, _WIDTH), np.float32)
    found[random.permutation(rows)[:copies]] = found[:copies] + noise
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    number = pl.Series(np.arange(rows)).cast(pl.String).str.zfill(8)
    embedded = pl.Series(found, dtype=pl.Array(pl.Float32, _WIDTH))
    return pl.DataFrame({"id": "row:" + number, "digest": number, "embedding": embedded})


def k_center(options: Options) -> Facts:
    """Greedy k-center; on fewer rows its decisions beside those of the CPU."""
    facts, k = Facts(), options["k"]
    table = _vectors(options["rows"])
    few = table.head(options["checked"])
    fewer = min(k, few.height // 10)
    decided = [KCenter(rows=fewer, device=one)(few) for one in ("cpu", options["device"])]
    facts["equal"] = decided[0].equals(decided[1])
    selector = KCenter(rows=k, device=options["device"])
    with timed(facts):
        facts["kept"] = int(selector(table)["keep"].sum())
    facts["flops"] = 2.0 * _WIDTH * options["rows"] * k
    facts["bytes"] = 4.0 * _WIDTH * options["rows"]
    return facts


def semantic_dedup(options: Options) -> Facts:
    """All pairs above a cosine; on fewer rows the decisions beside those of fp32 on the CPU."""
    facts = Facts()
    table = _vectors(options["rows"])
    few = table.head(options["checked"])
    settings: Any = {"threshold": 0.9, "exact_to": options["rows"], "guard": "none"}
    fast: Any = "auto" if options["device"] == "cuda" else "bf16"
    decided = [SemanticDedup(precision=one, **settings)(few) for one in ("fp32", fast)]
    facts["equal"] = decided[0].equals(decided[1])
    with timed(facts):
        facts["kept"] = int(SemanticDedup(**settings)(table)["keep"].sum())
    facts["flops"] = float(_WIDTH) * options["rows"] * facts["kept"]
    facts["bytes"] = 2.0 * _WIDTH * options["rows"]
    return facts


def ifd(options: Options) -> Facts:
    """IFD by the shape of SmolLM2, and the loop of one row a time with all logits."""
    facts, random = Facts(), np.random.default_rng(3)
    asked, told = (made_up.texts(options["rows"], size, random).to_list() for size in (3, 10))
    chats = pl.DataFrame(
        {
            "messages": pl.Series(
                [
                    [turn("user", prompt), turn("assistant", answer)]
                    for prompt, answer in zip(asked, told, strict=True)
                ],
                dtype=TURNS,
            )
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        model = str(made_up_models.language_model(Path(folder), small=not options["full"]))
        scorer = IFD(model)
        scorer(chats.head(4))  # loads what is loaded once
        with timed(facts):
            scorer(chats)
        lm = CausalLM(model, precision="fp32")
        rows = [row for row in lm.encode(asked, told) if row is not None]
        alone = [row for row in lm.encode([""] * len(told), told) if row is not None]
        facts["tokens"] = sum(len(row.ids) for row in (*rows, *alone))
        some = rows[: options["checked"]]
        fast = [one.mean_nll for one in lm.forward(some)]
        _loop(lm.loaded, some[:1], options["device"])
        with timed(facts, "loop_"):
            _loop(lm.loaded, some, options["device"])
        slow = _loop(lm.loaded.to("cpu"), some, "cpu")
        facts["loop_tokens"] = sum(len(row.ids) for row in some)
        facts["parameters"] = sum(one.numel() for one in lm.loaded.parameters())
    facts["flops"] = 2.0 * facts["parameters"] * facts["tokens"]
    facts["largest_difference"] = float(np.abs(np.subtract(fast, slow)).max())
    return facts


def _loop(model: Any, rows: list[TokenRow], device: str) -> list[float]:
    """Mean loss of the scored tokens of each row, from all logits of a batch of one."""
    found = []
    for row in rows:
        ids = torch.tensor([row.ids], device=device)
        with torch.inference_mode():
            logps = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        scored = torch.tensor(row.scored[1:], device=device)
        of_tokens = logps.gather(1, ids[0, 1:, None])[:, 0]
        found.append(float(-of_tokens[scored].double().mean()))
    return found


_PARTS = {
    "limits": limits,
    "embedding": embedding,
    "k_center": k_center,
    "semantic_dedup": semantic_dedup,
    "ifd": ifd,
}


def work(options: Options) -> Facts:
    """Options: part, device (cuda, cpu), full (whole models and sizes), and those of the part."""
    facts = _PARTS[options["part"]](options)
    if options["device"] == "cuda":
        facts["gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return facts


if __name__ == "__main__":
    serve(work)
