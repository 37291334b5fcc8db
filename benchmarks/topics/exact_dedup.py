"""Equal texts: `exact_dedup` against the bare polars expression, datasets and pandas."""

from __future__ import annotations

from benchmarks.figures import Topic
from benchmarks.measure import Contestant
from benchmarks.session import Session

__all__ = ["run"]

_ROWS = 1_000_000


def run(session: Session) -> Topic:
    """All in memory; ours starts from messages and names the survivor of each dropped row."""
    topic = Topic(
        "exact_dedup",
        "Tables in memory. `bare polars` is `unique(keep='first', maintain_order)` on the text "
        "column; `from messages` also joins the turns to that column, as ours does.",
        session.most is None,
    )
    rows = session.rows(_ROWS)
    contestants = [
        _own(session, "siftune", "selector", rows),
        _own(session, "bare polars", "bare", rows),
        _own(session, "bare polars from messages", "bare_with_text", rows),
        _peer(session, "datasets", "hf_datasets", rows),
        _peer(session, "pandas", "pandas_rows", rows),
    ]
    session.compare(topic, contestants, "siftune")
    for name, goal in (("bare polars", 1.3), ("bare polars from messages", 1.3)):
        bare = next((line for line in topic.lines if line.name == name), None)
        over = 1 / bare.ratio.median if bare and bare.ratio else None
        topic.at_most(f"our CPU seconds over {name}", over, goal, speed=True)
    return topic


def _own(session: Session, name: str, way: str, rows: int) -> Contestant:
    options = {"table": str(session.data.table(rows)), "way": way}
    return Contestant(name, "benchmarks.ours.exact", options, rows, session.repeats)


def _peer(session: Session, name: str, module: str, rows: int) -> Contestant:
    options = {"texts": str(session.data.texts(rows))}
    module = f"benchmarks.peers.{module}"
    return Contestant(name, module, options, rows, min(3, session.repeats), install=name)
