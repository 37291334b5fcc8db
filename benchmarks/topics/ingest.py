"""JSON lines in: ours with every guarantee against datasets, polars, pandas and a plain loop."""

from __future__ import annotations

from benchmarks.figures import Topic
from benchmarks.measure import Contestant
from benchmarks.session import Session

__all__ = ["run"]

_ROWS = 1_000_000
_PANDAS = 200_000  # at 1 M it needs more memory than many machines have


def run(session: Session) -> Topic:
    """Ours writes a Parquet table with ids, digests and a quarantine; the others read."""
    topic = Topic(
        "ingest",
        "JSON lines with instruction, input, output. Ours checks each row, writes zstd Parquet "
        "with digests and names bad rows; datasets writes its Arrow cache; `polars to Parquet` "
        "writes zstd Parquet; the rest read into memory.",
        session.most is None,
    )
    rows = session.rows(_ROWS)
    source = str(session.data.jsonl(rows))
    few = min(rows, _PANDAS)
    ours = {"source": source, "out": session.scratch("ingested")}
    lines = {"source": source, "out": session.scratch("polars.parquet")}
    read = "benchmarks.peers.read_lines"
    repeats = min(3, session.repeats)
    contestants = [
        Contestant("siftune", "benchmarks.ours.ingest", ours, rows, repeats),
        Contestant(
            "datasets",
            "benchmarks.peers.hf_datasets",
            {"source": source},
            rows,
            repeats,
            install="datasets",
        ),
        *(
            Contestant(name, read, lines | {"way": way}, rows, repeats, install="polars orjson")
            for name, way in (
                ("polars in memory", "polars"),
                ("polars to Parquet", "polars-parquet"),
                ("orjson loop", "orjson"),
            )
        ),
        Contestant(
            "pandas",
            "benchmarks.peers.pandas_rows",
            {"source": str(session.data.jsonl(few))},
            few,
            1,
            install="pandas",
        ),
    ]
    session.compare(topic, contestants, "siftune")
    topic.ratio("datasets", 3)
    size = session.data.jsonl(rows).stat().st_size / 1e6
    for line in topic.lines:
        topic.tell(f"{line.name}: MB a CPU second", size * line.rows / rows / line.cpu.median)
    return topic
