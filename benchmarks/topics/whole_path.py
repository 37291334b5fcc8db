"""A whole run over JSON lines: read, exact, fuzzy, select, kept rows and ledger written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.figures import Topic
from benchmarks.measure import Contestant, run_once
from benchmarks.session import Session

__all__ = ["compile_once", "run"]

_ROWS = 1_000_000
_FEW = 2_000


def run(session: Session) -> Topic:
    """One process does it all; every stage is written."""
    topic = Topic(
        "whole_path",
        "`curate run` from JSON lines: exact_dedup, minhash_dedup, length, top_fraction; kept rows "
        "and a ledger with one decision a row written. What stages took is that of the last run.",
        session.most is None,
    )
    rows = session.rows(_ROWS)
    out = Path(session.scratch("whole-path"))
    options = {"recipe": _recipe(str(session.data.jsonl(rows))), "out": str(out)}
    repeats = min(3, session.repeats)
    one = Contestant("siftune", "benchmarks.ours.whole_path", options, rows, repeats)
    session.compare(topic, [one], "siftune")
    if not topic.lines:
        return topic
    line = topic.lines[0]
    scale = rows / _ROWS
    topic.at_most(f"CPU seconds, {rows:,} rows", line.process_cpu, 25 * scale, speed=True)
    clock = line.facts["clock"]  # each stage starts the count of its peak anew
    peak = max(line.peak_mb, *(stage["peak_mb"] for stage in clock.values()))
    topic.at_most("peak memory, GB", peak / 1000, 3, speed=True)
    share = line.facts["ledger_cpu"] / line.cpu.median
    topic.at_most("ledger, share of the CPU seconds", share, 0.1, speed=True)
    decided = pl.read_parquet(out / "ledger.parquet", columns=["id"])
    topic.at_most("rows without exactly one decision", abs(decided["id"].n_unique() - rows), 0)
    for end, figure in zip(("least", "most"), line.facts["foretold"], strict=True):
        topic.report(f"CPU seconds predicted, {end}", figure)
    topic.report("CPU seconds that the prediction took", line.facts["foretelling_cpu"])
    for stage, told in clock.items():
        topic.report(f"CPU seconds of {stage}", told["cpu_seconds"])
        topic.report(f"peak memory of {stage}, GB", told["peak_mb"] / 1000)
    return topic


def compile_once(session: Session) -> None:
    """A small run, so that what is compiled once on a machine is not part of any figure."""
    rows = session.rows(_FEW)
    out = Path(session.scratch("compiled-once"))
    options = {"recipe": _recipe(str(session.data.jsonl(rows))), "out": str(out)}
    run_once(Contestant("compile once", "benchmarks.ours.whole_path", options, rows))


def _recipe(source: str) -> dict[str, Any]:
    return {
        "name": "whole path",
        "source": source,
        "stages": [
            {"select": "exact_dedup"},
            {"select": "minhash_dedup", "ngram": 5, "threshold": 0.7},
            {"score": "length"},
            {"select": "top_fraction", "by": "length_words", "fraction": 0.5},
        ],
    }
