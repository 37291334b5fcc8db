"""JSON lines in: ours with every guarantee against datasets, polars, pandas and plain loops."""

from __future__ import annotations

from benchmarks.figures import Topic
from benchmarks.measure import Contestant
from benchmarks.session import Session

__all__ = ["run"]

_ROWS = 1_000_000
_PANDAS = 200_000  # at 1 M it needs more memory than many machines have
_READ, _WRITTEN = "siftune, read", "siftune, to Parquet"
_BARE = {
    "polars, in a stream": "polars-stream",
    "polars, in memory": "polars",
    "polars, to Parquet": "polars-parquet",
    "pyarrow, in a stream": "pyarrow",
    "orjson loop": "orjson",
}


def run(session: Session) -> Topic:
    """Each reads the same file; ours and datasets have read its first lines before."""
    topic = Topic(
        "ingest",
        "JSON lines with instruction, input, output. Ours checks each row, gives it an id and a "
        "digest, names bad rows; read batch by batch, or also written as Parquet. datasets writes "
        "its Arrow cache; both are not compressed. `polars, in a stream` takes the lengths of all "
        "texts and keeps none; `pyarrow` is what datasets reads with, nothing kept or written. CPU "
        "s leaves out what a process loads once: ours and datasets have read 20,000 lines before.",
        session.most is None,
    )
    rows = session.rows(_ROWS)
    session.compare(topic, _contestants(session, rows), _READ)
    topic.ratio("datasets", 3)
    _beside(topic, "polars, in a stream", _READ)
    _beside(topic, "polars, in memory", _READ)
    _beside(topic, "datasets", _WRITTEN)
    _beside(topic, "polars, to Parquet", _WRITTEN)
    size = session.data.jsonl(rows).stat().st_size / 1e6
    for line in topic.lines:
        topic.report(f"{line.name}: MB a CPU second", size * line.rows / rows / line.cpu.median)
    return topic


def _contestants(session: Session, rows: int) -> list[Contestant]:
    source = {"source": str(session.data.jsonl(rows))}
    few = min(rows, _PANDAS)
    repeats = min(3, session.repeats)

    def ours(name: str, way: str) -> Contestant:
        options = source | {"way": way, "out": session.scratch("ingested")}
        return Contestant(name, "benchmarks.ours.ingest", options, rows, repeats)

    def peer(name: str, module: str, options: dict[str, str], rows: int, runs: int) -> Contestant:
        module = f"benchmarks.peers.{module}"
        return Contestant(
            name, module, options, rows, runs, install="datasets polars orjson pandas"
        )

    lines = source | {"out": session.scratch("polars.parquet")}
    return [
        ours(_READ, "read"),
        ours(_WRITTEN, "parquet"),
        peer("datasets", "hf_datasets", source, rows, repeats),
        *(
            peer(name, "read_lines", lines | {"way": way}, rows, repeats)
            for name, way in _BARE.items()
        ),
        peer("pandas", "pandas_rows", {"source": str(session.data.jsonl(few))}, few, 1),
    ]


def _beside(topic: Topic, name: str, own: str) -> None:
    """The CPU seconds of one contestant over those of one of ours."""
    cpu = {line.name: line.cpu.median for line in topic.lines}
    found = cpu[name] / cpu[own] if {name, own} <= set(cpu) else None
    topic.report(f"CPU seconds of {name} over {own}", found)
