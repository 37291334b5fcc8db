"""`python -m benchmarks`: run the topics, print tables, write them and a chart to `results/`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.data import Data
from benchmarks.figures import Topic, as_json, chart, markdown, topics_of
from benchmarks.measure import Contestant, run_once
from benchmarks.session import Session
from benchmarks.topics.whole_path import compile_once

TOPICS = (
    "fuzzy_dedup",
    "exact_dedup",
    "embedding",
    "semantic_dedup",
    "selection",
    "ingest",
    "whole_path",
)
RESULTS = Path(__file__).parent / "results"
_TEXTS = {False: "real", True: "made up; give --data for real ones"}


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0: every measured goal is reached; 1: one is not, and the table marks it."""
    asked = _asked(words)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        data = Data.of(asked.data)
    except FileNotFoundError as error:
        _say(f"--data: {error.filename} is not there; leave --data out to measure on made-up texts")
        return 2
    _say(f"texts: {_TEXTS[asked.data is None]}")
    limits = _limits(asked.quick)
    most = asked.rows or (2_000 if asked.quick else None)
    repeats = asked.repeats or (1 if asked.quick else 5)
    session = Session(data, _say, limits, most, repeats)
    try:
        compile_once(session)
        topics = []
        for name in asked.only or TOPICS:
            topics.append(_run(name, session))
            _write(asked.out, _machine(asked.data), topics)
    finally:
        session.clear()
    machine = _machine(asked.data)
    print(markdown(machine, topics))
    if asked.json:
        print(json.dumps(as_json(machine, topics)))
    return int(any(check.met is False for topic in topics for check in topic.checks))


def _run(name: str, session: Session) -> Topic:
    topic: Topic = importlib.import_module(f"benchmarks.topics.{name}").run(session)
    topic.limits = session.limits
    return topic


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=TOPICS, help="a topic; may be repeated")
    parser.add_argument("--rows", type=int, help="no size above this")
    parser.add_argument("--quick", action="store_true", help="2,000 rows, each contestant once")
    parser.add_argument("--repeats", type=int, help="runs of the quick contestants; 5")
    parser.add_argument("--data", type=_data, default=_data(), help="folder of the real data sets")
    parser.add_argument("--json", action="store_true", help="all figures as the last line")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args(words)


def _limits(quick: bool) -> dict[str, float]:
    _say("limits of this machine")
    options = {"seconds": 0.2 if quick else 3.0}
    return dict(run_once(Contestant("limits", "benchmarks.ours.limits", options, 1)).facts)


def _data(given: str = "") -> Path | None:
    """The folder of the option, else of the environment; None: texts are made up."""
    named = given or os.environ.get("SIFTUNE_BENCHMARK_DATA", "")
    return Path(named) if named else None


def _machine(data: Path | None) -> dict[str, Any]:
    return {
        "texts": _TEXTS[data is None],
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "load before the tables were printed": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "polars": pl.__version__,
        "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"],
    }


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()


def _write(folder: Path, machine: Mapping[str, Any], topics: Sequence[Topic]) -> None:
    """Write the figures of these topics, with those of other topics that the folder has."""
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "figures.json"
    before = topics_of(json.loads(known.read_text(encoding="utf-8"))) if known.is_file() else {}
    every = before | {topic.name: topic for topic in topics}
    topics = [every[name] for name in TOPICS if name in every]
    (folder / "figures.md").write_text(markdown(machine, topics), encoding="utf-8")
    (folder / "ratios.svg").write_text(chart(topics), encoding="utf-8")
    (folder / "figures.json").write_text(
        json.dumps(as_json(machine, topics), indent=1) + "\n", encoding="utf-8"
    )
    _say(f"written to {folder}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
