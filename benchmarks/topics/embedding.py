"""all-MiniLM-L6-v2 on the CPU: ours in bf16 and fp32 against sentence-transformers' default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.figures import Line, Topic
from benchmarks.measure import PEERS, Contestant
from benchmarks.session import Session

__all__ = ["run"]

_ROWS = 1_000  # kernels are made once for each length of text: of few texts, a fifth of the time
_REAL = 20_000  # texts that the sample is drawn from
_FLOP = 2 * 6 * (4 * 384 * 384 + 2 * 384 * 1536)
"""Useful flops a token: the six layers' matrices. Attention and padding are not credited."""


def run(session: Session) -> Topic:
    """Texts of the planted set, one thread; loading the model is not counted."""
    topic = Topic(
        "embedding",
        "all-MiniLM-L6-v2, window 256, one thread, loading not counted. Useful flops are those of "
        "the six layers' matrices for real tokens; the peak is that of the faster of torch's "
        "product and oneDNN's, at those shapes and 256 tokens. OpenVINO and ONNX Runtime start "
        "with token ids, sorted by length, 2,048 a batch.",
        session.most is None,
    )
    rows = session.rows(_ROWS)
    texts = session.data.folder / f"to-embed-{rows}.parquet"
    source = pl.read_parquet(session.data.texts(session.rows(_REAL)))["text"]
    source.head(rows).to_frame().write_parquet(texts)
    ways = {"bf16": "siftune bf16", "fp32": "siftune fp32", "sentence-transformers": ""}
    contestants = [
        Contestant(
            name or f"{way} (default)",
            "benchmarks.ours.embed",
            {"texts": str(texts), "way": way, "out": session.scratch(f"embed-{way}.npy")},
            rows,
            session.repeats,
        )
        for way, name in ways.items()
    ]
    runtimes, tokens_cpu = _runtimes(session, topic, texts, rows)
    ran = session.compare(topic, [*contestants, *runtimes], "siftune bf16")
    if not {one.name for one in contestants} <= ran:
        return topic
    default = contestants[-1].name
    topic.ratio(default, 2.4)
    lines = {line.name: line for line in topic.lines}
    fp32 = lines[default].cpu.median / lines["siftune fp32"].cpu.median
    topic.at_least(f"CPU seconds of {default} over our fp32", fp32, 1.2, speed=True)
    _cosines(session, topic)
    _against(session, topic, [one.name for one in runtimes if one.name in ran], tokens_cpu)
    _shares(session, topic, lines, _tokens(source.head(rows).to_list()))
    return topic


def _runtimes(
    session: Session, topic: Topic, texts: Path, rows: int
) -> tuple[list[Contestant], float]:
    """OpenVINO and ONNX Runtime on the same texts, and the CPU seconds that their tokens took."""
    made = {"model": session.scratch("minilm.onnx"), "ids": session.scratch("minilm-ids.npz")}
    packages = str(next((PEERS.parent.parent / "lib").glob("*/site-packages"), PEERS))
    options = {"texts": str(texts), "packages": packages, **made}
    exported = Contestant("ONNX file", "benchmarks.ours.onnx_export", options, rows, install="onnx")
    facts = session.once(topic, exported)
    if facts is None:
        return [], 0.0
    ways = ("openvino-bf16", "openvino-fp32", "onnxruntime")
    contestants = [
        Contestant(
            way,
            "benchmarks.peers.runtimes",
            {**made, "way": way, "out": session.scratch(f"embed-{way}.npy")},
            rows,
            install=way.partition("-")[0],
        )
        for way in ways
    ]
    return contestants, float(str(facts["tokens_cpu"]))


def _against(session: Session, topic: Topic, ways: list[str], tokens_cpu: float) -> None:
    """What other runtimes cost with tokens made as well, and how near their vectors are."""
    cpu = {line.name: line.cpu.median for line in topic.lines}
    theirs = np.load(session.scratch("embed-sentence-transformers.npy"))
    for way in ways:
        over = (cpu[way] + tokens_cpu) / cpu["siftune bf16"]
        topic.report(f"CPU seconds of {way}, tokens made, over ours in bf16", over)
        cosine = (np.load(session.scratch(f"embed-{way}.npy")) * theirs).sum(axis=1)
        topic.report(f"least cosine of {way} to sentence-transformers", float(cosine.min()))


def _cosines(session: Session, topic: Topic) -> None:
    theirs = np.load(session.scratch("embed-sentence-transformers.npy"))
    for way, goal in (("bf16", 0.999), ("fp32", 0.99999)):
        cosine = (np.load(session.scratch(f"embed-{way}.npy")) * theirs).sum(axis=1)
        topic.at_least(f"least cosine of {way} to sentence-transformers", float(cosine.min()), goal)


def _shares(session: Session, topic: Topic, lines: dict[str, Line], tokens: int) -> None:
    for way, goal in (("bf16", 0.55), ("fp32", None)):
        rate = tokens / lines[f"siftune {way}"].cpu.median
        share = rate * _FLOP / 1e9 / session.limits[f"gemm_{way}_minilm_gflops"]
        topic.report(f"{way}: tokens a CPU second", rate)
        if goal is None:
            topic.report(f"{way}: share of the GEMM peak", share)
        else:
            topic.at_least(f"{way}: share of the GEMM peak", share, goal, speed=True)


def _tokens(texts: list[str]) -> int:
    """Tokens within the window, the two special ones included."""
    from tokenizers import Tokenizer

    from siftune.curate.vectors.embed_model import find_model

    tokenizer = Tokenizer.from_file(str(find_model(None) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return sum(len(found.ids) for found in tokenizer.encode_batch(texts))
