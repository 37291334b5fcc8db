"""Near-duplicates by cosine on real embeddings: exact, clustered, and semhash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Topic
from benchmarks.measure import Contestant
from benchmarks.session import Session
from benchmarks.topics.fuzzy_dedup import survivors
from benchmarks.truth import cosine_pairs, cosine_violations

__all__ = ["run"]

_ROWS, _CLUSTERED = 50_000, 200_000
_THRESHOLD = 0.9
_SHUFFLES = 20
_SHUFFLED = 10_000
_THRESHOLDS = (0.7, 0.8, 0.9)


def run(session: Session) -> Topic:
    """Embeddings of Alpaca; those of single sentences for the 200,000."""
    topic = Topic(
        "semantic_dedup",
        "all-MiniLM-L6-v2 embeddings of Alpaca rows, cosine >= 0.9, vectors given. Useful flops "
        "are rows² · width (each pair once, dropped rows included).",
        session.most is None,
    )
    rows = session.rows(_ROWS)
    matrix, table = session.vectors(rows)
    contestants = [
        _ours(session, f"siftune {name}", table, rows, {"precision": precision})
        for name, precision in (("bfloat16", "bf16"), ("float32", "fp32"))
    ]
    semhash = {"vectors": str(matrix), "threshold": _THRESHOLD, "out": session.scratch("sem.npy")}
    module = "benchmarks.peers.semhash"
    repeats = min(3, session.repeats)
    contestants.append(Contestant("semhash", module, semhash, rows, repeats, install="semhash"))
    session.compare(topic, contestants, "siftune bfloat16")
    topic.ratio("semhash", 4)
    _peak_shares(session, topic, rows, np.load(matrix, mmap_mode="r").shape[1])
    _cover_rule(session, topic, matrix, table)
    _clustered(session, topic)
    return topic


def _ours(
    session: Session, name: str, table: Path, rows: int, settings: dict[str, Any]
) -> Contestant:
    options = {
        "table": str(table),
        "selector": "semantic_dedup",
        "settings": {"threshold": _THRESHOLD, "guard": "none", **settings},
        "out": session.scratch(f"semantic-{name.replace(' ', '-').replace(',', '')}.parquet"),
    }
    return Contestant(name, "benchmarks.ours.select", options, rows, session.repeats)


def _peak_shares(session: Session, topic: Topic, rows: int, width: int) -> None:
    for dtype, peak, goal in (("float32", "fp32", 0.75), ("bfloat16", "bf16", 0.65)):
        line = next((line for line in topic.lines if line.name == f"siftune {dtype}"), None)
        if line is not None:
            rate = rows * rows * width / line.cpu.median / 1e9
            share = rate / session.limits[f"gemm_{peak}_semantic_gflops"]
            topic.at_least(f"{dtype}: share of the GEMM peak", share, goal, speed=True)


def _cover_rule(session: Session, topic: Topic, matrix: Path, table: Path) -> None:
    vectors = np.load(matrix)
    for threshold in _THRESHOLDS:
        one = _ours(session, "cover rule", table, len(vectors), {"threshold": threshold})
        if session.once(topic, one) is None:
            return
        found = survivors(Path(str(one.options["out"])))
        uncovered, surviving = cosine_violations(vectors, found, threshold)
        topic.at_most(f"{threshold}: dropped without a survivor", uncovered, 0)
        topic.at_most(f"{threshold}: surviving pairs", surviving, 0)
    _, few = session.vectors(session.rows(_SHUFFLED))
    options = {
        "table": str(few),
        "columns": ["id", "digest", "embedding"],
        "selector": "semantic_dedup",
        "settings": {"threshold": _THRESHOLD, "guard": "none"},
        "shuffles": _SHUFFLES,
    }
    facts = session.once(topic, Contestant("shuffles", "benchmarks.ours.shuffles", options, 1))
    if facts is not None:
        topic.at_most(f"of {_SHUFFLES} shuffles, changed", float(str(facts["changed"])), 0)


def _clustered(session: Session, topic: Topic) -> None:
    rows = session.rows(_CLUSTERED)
    matrix, table = session.vectors(rows, sentences=True)
    one = _ours(session, f"siftune clustered, {rows:,} sentences", table, rows, {"exact_to": 0})
    whole = _ours(session, f"siftune exact, {rows:,} sentences", table, rows, {"exact_to": rows})
    once = [Contestant(c.name, c.module, c.options, rows) for c in (one, whole)]
    if len(session.compare(topic, once, whole.name)) < 2:
        return
    decided = [survivors(Path(str(c.options["out"]))) for c in once]
    left, right = cosine_pairs(np.load(matrix), _THRESHOLD)
    broken = (decided[0][left] >= 0) | (decided[0][right] >= 0)
    share = float(broken.mean()) if len(broken) else None
    topic.at_least("clustered: share of near pairs that are not both kept", share, 0.99)
    topic.report("clustered: kept", int((decided[0] < 0).sum()))
    topic.report("exact: kept", int((decided[1] < 0).sum()))
    same = (decided[0] < 0) == (decided[1] < 0)
    topic.report("clustered: share of rows decided as by exact", float(same.mean()))
