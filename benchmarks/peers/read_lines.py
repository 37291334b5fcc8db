"""JSON lines with bare polars (in a stream, in memory, to Parquet), pyarrow, and an orjson loop."""

from __future__ import annotations

from pathlib import Path

import orjson
import polars as pl
import pyarrow.json

from benchmarks.worker import Facts, Options, serve, timed

_PYARROW = pyarrow.json.ReadOptions(block_size=10 << 20)  # what `datasets` asks for


def work(options: Options) -> Facts:
    """Options: source, way (polars-stream, polars, polars-parquet, pyarrow, orjson), out."""
    facts: Facts = {}
    with timed(facts):
        match options["way"]:
            case "polars-stream":
                sizes = pl.scan_ndjson(options["source"]).select(pl.all().str.len_bytes().sum())
                sizes.collect(engine="streaming")
            case "pyarrow":
                with pyarrow.json.open_json(options["source"], _PYARROW) as stream:
                    facts["rows_read"] = sum(batch.num_rows for batch in stream)
            case "polars":
                facts["rows_read"] = pl.read_ndjson(options["source"]).height
            case "polars-parquet":
                pl.scan_ndjson(options["source"]).sink_parquet(
                    options["out"], compression="uncompressed"
                )
            case "orjson":
                with Path(options["source"]).open("rb") as stream:
                    facts["rows_read"] = len([orjson.loads(line) for line in stream])
    return facts


if __name__ == "__main__":
    serve(work)
