"""Near-duplicates by word 5-grams: speed, recall, precision, and the cover rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.figures import Topic
from benchmarks.measure import Contestant
from benchmarks.session import Session
from benchmarks.truth import Pairs, cover_violations, near_pairs, precision, shares

__all__ = ["run"]

_THRESHOLD = 0.7
_THRESHOLDS = (0.7, 0.8, 0.9)  # that the cover rule is checked at
_SHUFFLES = 20
_ROWS, _MANY, _FEW = 200_000, 1_000_000, 50_000
_SLOW = {"datasketch": 20_000, "text-dedup": 10_000, "datatrove": 4_000}
_WHITESPACE = "datatrove, words at whitespace"
_GOALS = {"gaoya": 4.5, "rensa": 4.5, "text-dedup": 80.0, "datatrove": 100.0}
_COLUMNS = ["id", "kind", "digest", "messages"]


def run(session: Session) -> Topic:
    """Ours and the peers at 200,000 rows, ours at a million, the cover rule at 50,000."""
    topic = Topic(
        "fuzzy_dedup",
        "Word 5-grams, Jaccard >= 0.7. Ours reads a Parquet table, finds, checks every pair and "
        "names survivors; the peers start with the texts in memory, but for text-dedup, a command "
        "from file to file. CPU s leaves out what a process loads once, process CPU s has it. Slow "
        "peers get fewer rows and are compared by the row. datatrove's own words are spaCy's, most "
        "of its time; at whitespace is the quickest of the ways it has to split a text.",
        session.most is None,
    )
    rows = session.rows(_ROWS)
    contestants = _contestants(session, rows)
    ran = session.compare(topic, contestants, "siftune")
    for one in contestants:
        if one.name in ran:
            _quality(session, topic, one)
    for name, goal in _GOALS.items():
        topic.ratio(name, goal)
    _many(session, topic, rows)
    for name, table, texts in _covered(session):
        _cover_rule(session, topic, name, table, texts)
    return topic


def _contestants(session: Session, rows: int) -> list[Contestant]:
    found = [_ours(session, rows, repeats=session.repeats)]
    base: dict[str, Any] = {"threshold": _THRESHOLD, "permutations": 128, "bands": 16}
    found += [
        _peer(session, "gaoya", "gaoya", rows, {**base, "band_size": 8}),
        _peer(session, "rensa", "rensa", rows, base),
    ]
    for name, most in _SLOW.items():
        module, options = name.replace("-", "_"), {**base, "words": "default"}
        found.append(
            _peer(session, name, module, min(rows, most), options, min(3, session.repeats))
        )
    few, options = min(rows, _SLOW["datatrove"]), {**base, "words": "whitespace"}
    found.append(_peer(session, _WHITESPACE, "datatrove", few, options, min(3, session.repeats)))
    return found


def _ours(session: Session, rows: int, repeats: int = 1, threshold: float = 0.7) -> Contestant:
    name = "siftune" if rows <= _ROWS else f"siftune, {rows:,} rows"
    return Contestant(
        name,
        "benchmarks.ours.fuzzy",
        {
            "table": str(session.data.table(rows)),
            "settings": {"ngram": 5, "threshold": threshold},
            "out": session.scratch(f"fuzzy-siftune-{rows}.parquet"),
        },
        rows,
        repeats,
    )


def _peer(
    session: Session,
    name: str,
    module: str,
    rows: int,
    options: dict[str, Any],
    repeats: int | None = None,
) -> Contestant:
    texts = str(session.data.texts(rows))
    out = session.scratch(f"fuzzy-{name}.npy")
    return Contestant(
        name,
        f"benchmarks.peers.{module}",
        options | {"texts": texts, "out": out, "rows": rows},
        rows,
        session.repeats if repeats is None else repeats,
        install=module.replace("_", "-"),
    )


def _quality(session: Session, topic: Topic, one: Contestant) -> None:
    truth = _truth(session, session.data.texts(one.rows))
    out = Path(str(one.options["out"]))
    gone = np.load(out) if out.suffix == ".npy" else survivors(out) >= 0
    figures = {
        "recall at 0.7": (shares(truth, gone, 0.7), 0.995),
        "recall at 0.8": (shares(truth, gone, 0.8), 0.999),
        "precision": (precision(truth, gone, _THRESHOLD), 0.999),
    }
    for what, (value, goal) in figures.items():
        if one.name == "siftune":
            topic.at_least(f"{one.name}: {what}", value, goal)
        else:
            topic.report(f"{one.name}: {what}", value)


def _many(session: Session, topic: Topic, rows: int) -> None:
    many = session.rows(_MANY)
    own = topic.lines[0] if topic.lines and topic.lines[0].name == "siftune" else None
    if own is None or many <= rows:
        return
    one = _ours(session, many, repeats=min(3, session.repeats))
    session.compare(topic, [one], one.name)
    if topic.lines[-1].name == one.name:
        line = topic.lines[-1]
        rate = (line.rows / line.cpu.median) / (own.rows / own.cpu.median)
        topic.at_least(f"rate at {many:,} rows over that at {rows:,}", rate, 0.85, speed=True)
        size = session.data.text_bytes(many) / 2**20
        topic.at_most("peak memory over the size of the text", line.peak_mb / size, 3, speed=True)


def _covered(session: Session) -> list[tuple[str, Path, Path]]:
    """Alpaca and the planted set: their tables and texts in the same order."""
    few, alpaca = session.rows(_FEW), session.rows(52_000)
    whole = pl.read_ndjson(session.data.alpaca(alpaca))
    texts = session.data.folder / f"alpaca-joined-{alpaca}.parquet"
    joined = pl.concat_str("instruction", "input", "output", separator="\n\n")
    whole.select(text=joined).write_parquet(texts)
    planted = session.data.table(few), session.data.texts(few)
    return [("Alpaca", session.data.alpaca_table(alpaca), texts), ("planted", *planted)]


def _cover_rule(session: Session, topic: Topic, name: str, table: Path, texts: Path) -> None:
    truth = _truth(session, texts)
    rows = truth.sets.shape[0]
    for threshold in _THRESHOLDS:
        out = session.scratch(f"cover-{name}-{threshold}.parquet")
        settings = {"ngram": 5, "threshold": threshold}
        asked = {"table": str(table), "settings": settings, "out": out}
        ours = Contestant(f"siftune on {name}", "benchmarks.ours.fuzzy", asked, rows)
        if session.once(topic, ours) is None:
            return
        uncovered, surviving = cover_violations(truth, survivors(Path(out)), threshold)
        topic.at_most(f"{name}, {threshold}: dropped without a survivor", uncovered, 0)
        topic.at_most(f"{name}, {threshold}: surviving pairs", surviving, 0)
    options: dict[str, Any] = {
        "table": str(table),
        "columns": _COLUMNS,
        "selector": "minhash_dedup",
        "settings": {"ngram": 5, "threshold": _THRESHOLD},
        "shuffles": _SHUFFLES,
    }
    facts = session.once(topic, Contestant("shuffles", "benchmarks.ours.shuffles", options, rows))
    if facts is not None:
        topic.at_most(f"{name}: of {_SHUFFLES} shuffles, changed", float(str(facts["changed"])), 0)


def survivors(decided: Path) -> np.ndarray:
    """For each row the row number of its survivor; -1 where it is kept."""
    table = pl.read_parquet(decided).with_row_index("at").with_columns(pl.col("at").cast(pl.Int64))
    named = table.with_columns(survivor=pl.col("detail").str.json_path_match("$.survivor"))
    at = table.select(pl.col("id").alias("survivor"), pl.col("at").alias("found"))
    joined = named.join(at, on="survivor", how="left", maintain_order="left")
    if joined.filter(~pl.col("keep") & pl.col("found").is_null()).height:
        raise ValueError(f"{decided}: a dropped row names no survivor of the table")
    found = joined.select(pl.when("keep").then(-1).otherwise("found")).to_series().to_numpy()
    return np.asarray(found, np.int64)


def _truth(session: Session, texts: Path) -> Pairs:
    path = session.data.folder / f"truth-{texts.stem}.npz"
    if not path.exists():
        session.say(f"  all pairs of {texts.stem} (kept)")
        near_pairs(pl.read_parquet(texts)["text"], min(_THRESHOLDS)).save(path)
    return Pairs.load(path)
