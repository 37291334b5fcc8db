"""k-center, facility location and DEITA's filter against step-by-step forms and libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.figures import Topic
from benchmarks.measure import Contestant
from benchmarks.session import Session

__all__ = ["objective", "run"]

_CENTRES = (50_000, 1_000)
_LOCATED = (5_000, 100)
_SPARSE = (50_000, 500)
_FILTERED = 10_000
_SIMILAR = 0.9


def run(session: Session) -> Topic:
    """All on embeddings of Alpaca, vectors given, one thread."""
    topic = Topic(
        "selection",
        "all-MiniLM-L6-v2 embeddings of Alpaca rows, vectors given, one thread. Ratios are to the "
        "first line of ours in each group. CPU s leaves out what a process loads or "
        "compiles once (torch, numba; apricot too), process CPU s has it.",
        session.most is None,
    )
    _k_center(session, topic)
    _facility(session, topic)
    _deita(session, topic)
    return topic


def _k_center(session: Session, topic: Topic) -> None:
    rows = session.rows(_CENTRES[0])
    k = min(_CENTRES[1], rows // 4)
    matrix, table = session.vectors(rows)
    ours = _ours(session, "siftune k_center", "k_center", table, rows, {"rows": k})
    if session.once(topic, ours) is None:
        return
    own = _picks(ours)
    base = {"vectors": str(matrix), "first": int(own[0]), "k": k}
    steps = [
        Contestant(
            f"k_center, {way} step by step",
            "benchmarks.references.k_center",
            {**base, "way": way, "out": session.scratch(f"k-center-{way}.npy")},
            rows,
            repeats,
        )
        for way, repeats in (("torch", session.repeats), ("numpy", 1), ("exact", 1))
    ]
    session.compare(topic, [ours, *steps], ours.name)
    for one, goal in zip(steps, (8.0, 30.0, None), strict=True):
        same = float((np.load(str(one.options["out"])) == own).mean())
        if goal is None:
            topic.at_least(f"picks equal to {one.name}", same, 1)
        else:
            topic.ratio(one.name, goal)
            topic.report(f"picks equal to {one.name}", same)


def _facility(session: Session, topic: Topic) -> None:
    rows = session.rows(_LOCATED[0])
    k = min(_LOCATED[1], rows // 4)
    matrix, table = session.vectors(rows)
    ours = _ours(
        session, "siftune facility_location", "facility_location", table, rows, {"rows": k}
    )
    exact = _ours(
        session,
        "siftune facility_location exact",
        "facility_location",
        table,
        rows,
        {"rows": k, "exact": True},
    )
    peers = [
        Contestant(
            f"facility_location, {way}",
            "benchmarks.peers.facility",
            {"vectors": str(matrix), "k": k, "way": way, "out": session.scratch(f"fl-{way}.npy")},
            rows,
            min(3, session.repeats),
            install=package,
        )
        for way, package in (("apricot", "apricot-select"), ("submodlib", "submodlib-py"))
    ]
    ran = session.compare(topic, [ours, exact, *peers], ours.name)
    topic.ratio(peers[0].name, 14)
    topic.ratio(peers[1].name, 24)
    if {ours.name, exact.name} <= ran:
        _objectives(topic, np.load(matrix), [ours, exact], [p for p in peers if p.name in ran])
    _sparse(session, topic)


def _objectives(
    topic: Topic, vectors: np.ndarray, own: list[Contestant], peers: list[Contestant]
) -> None:
    found = [objective(vectors, _picks(one)) for one in own]
    topic.at_least("objective over that of the exact greedy", found[0] / found[1], 0.999)
    for peer in peers:
        theirs = objective(vectors, np.load(str(peer.options["out"])))
        topic.report(f"objective of {peer.name} over the exact greedy's", theirs / found[1])


def _sparse(session: Session, topic: Topic) -> None:
    rows = session.rows(_SPARSE[0])
    k = min(_SPARSE[1], rows // 4)
    _, table = session.vectors(rows)
    name = f"siftune facility_location, {rows:,} to {k}"
    ours = _ours(session, name, "facility_location", table, rows, {"rows": k})
    session.compare(topic, [Contestant(name, ours.module, ours.options, rows)], name)


def _deita(session: Session, topic: Topic) -> None:
    rows = session.rows(_FILTERED)
    matrix, table = session.vectors(rows)
    settings = {"by": "score", "max_similarity": _SIMILAR, "rows": rows}
    ours = _ours(session, "siftune deita_filter", "deita_filter", table, rows, settings)
    order = pl.read_parquet(table, columns=["score"])["score"].arg_sort(descending=True).to_numpy()
    ranked = session.scratch(f"ranked-{rows}.npy")
    np.save(ranked, np.load(matrix)[order])
    reference = [
        Contestant(
            f"DEITA reference, batch {size}",
            "benchmarks.references.deita",
            {
                "vectors": ranked,
                "threshold": _SIMILAR,
                "batch_size": size,
                "out": session.scratch(f"deita-{size}.npy"),
            },
            rows,
            repeats,
        )
        for size, repeats in ((1, 1), (64, session.repeats))
    ]
    session.compare(topic, [ours, *reference], ours.name)
    topic.ratio(reference[0].name, 100)
    topic.ratio(reference[1].name, 2.5)
    own = set(_kept(ours).tolist())
    for one in reference:
        theirs = set(order[np.load(str(one.options["out"]))].tolist())
        topic.report(f"rows kept by one of us and {one.name} only", len(own ^ theirs))
    topic.at_most(
        "rows kept unlike the reference (batch 1)", len(_unlike(own, order, reference[0])), 0
    )


def _unlike(own: set[int], order: np.ndarray, reference: Contestant) -> set[int]:
    return own ^ set(order[np.load(str(reference.options["out"]))].tolist())


def _ours(
    session: Session, name: str, selector: str, table: Path, rows: int, settings: dict[str, Any]
) -> Contestant:
    options = {
        "table": str(table),
        "selector": selector,
        "settings": settings,
        "out": session.scratch(f"select-{name.replace(' ', '-').replace(',', '')}.parquet"),
    }
    return Contestant(name, "benchmarks.ours.select", options, rows, session.repeats)


def _kept(ours: Contestant) -> np.ndarray:
    return np.flatnonzero(pl.read_parquet(str(ours.options["out"]))["keep"].to_numpy())


def _picks(ours: Contestant) -> np.ndarray:
    """Rows in the order they were picked."""
    decided = pl.read_parquet(str(ours.options["out"])).with_row_index("at")
    order = pl.col("detail").str.json_path_match("$.order").cast(pl.Int64)
    return decided.filter("keep").sort(order)["at"].to_numpy().astype(np.int64)


def objective(vectors: np.ndarray, picks: np.ndarray) -> float:
    """Sum over all rows of the cosine to the nearest pick, at least 0; in float64."""
    units = vectors.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return float(np.maximum(units @ units[picks].T, 0).max(axis=1).sum())
