"""JSON lines with bare polars (in memory, or to Parquet in a stream) and in an orjson loop."""

from __future__ import annotations

from pathlib import Path

import orjson
import polars as pl

from benchmarks.worker import Facts, Options, serve, timed


def work(options: Options) -> Facts:
    """Options: source, way (polars, polars-parquet, orjson), out."""
    facts: Facts = {}
    with timed(facts):
        match options["way"]:
            case "polars":
                facts["rows_read"] = pl.read_ndjson(options["source"]).height
            case "polars-parquet":
                pl.scan_ndjson(options["source"]).sink_parquet(options["out"], compression="zstd")
            case "orjson":
                with Path(options["source"]).open("rb") as stream:
                    facts["rows_read"] = len([orjson.loads(line) for line in stream])
    return facts


if __name__ == "__main__":
    serve(work)
