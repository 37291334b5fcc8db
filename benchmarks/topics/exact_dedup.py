"""Equal rows: `exact_dedup` against the bare polars expressions, datasets and pandas."""

from __future__ import annotations

from benchmarks.figures import Topic
from benchmarks.measure import Contestant
from benchmarks.session import Session

__all__ = ["run"]

_ROWS = 1_000_000
_JOINED = "joined unique"
_WAYS = {"unique": "bare unique", "hash": "bare hash", _JOINED: "joined, then unique"}


def run(session: Session) -> Topic:
    """All in memory; ours names the survivor of each dropped row, the others only count rows."""
    topic = Topic(
        "exact_dedup",
        "Tables in memory. `bare unique` is `unique(keep='first', maintain_order=True)`, `bare "
        "hash` is `filter(hash().is_first_distinct())`, which may drop rows that are not equal; "
        "both are given the digests, or the joined texts. `joined, then unique` joins them from "
        "the messages, which is what ours starts from: ours is held to it, and for the content, "
        "whose digests are a column of the table, to `bare unique`.",
        session.most is None,
    )
    rows = session.rows(_ROWS)
    for of in ("content", "prompt", "response", "both"):
        ways = {way: name for way, name in _WAYS.items() if (of, way) != ("content", _JOINED)}
        contestants = [_own(session, f"siftune, {of}", of, "selector", rows)]
        contestants += [_own(session, f"{name}, {of}", of, way, rows) for way, name in ways.items()]
        if of == "both":
            contestants += [_peer(session, "datasets", "hf_datasets", rows)]
            contestants += [_peer(session, "pandas", "pandas_rows", rows)]
        session.compare(topic, contestants, f"siftune, {of}")
        held = _WAYS["unique" if of == "content" else _JOINED]
        for name in ways.values():
            _over(topic, f"{name}, {of}", held=name == held)
    return topic


def _over(topic: Topic, name: str, *, held: bool) -> None:
    """Our CPU seconds over those of a contestant, ``held`` to a goal where the work is the same."""
    line = next((line for line in topic.lines if line.name == name), None)
    over = 1 / line.ratio.median if line and line.ratio else None
    what = f"our CPU seconds over {name}"
    if held:
        topic.at_most(what, over, 1.3, speed=True)
    else:
        topic.report(what, over)


def _own(session: Session, name: str, of: str, way: str, rows: int) -> Contestant:
    options = {"table": str(session.data.table(rows)), "of": of, "way": way}
    return Contestant(name, "benchmarks.ours.exact", options, rows, session.repeats)


def _peer(session: Session, name: str, module: str, rows: int) -> Contestant:
    options = {"texts": str(session.data.texts(rows))}
    module = f"benchmarks.peers.{module}"
    return Contestant(name, module, options, rows, min(3, session.repeats), install=name)
