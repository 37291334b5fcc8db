"""JSON lines with every guarantee of the reader: as rows batch by batch, or to a table on disk."""

from __future__ import annotations

from pathlib import Path

from benchmarks.worker import Facts, Options, serve, timed
from curate.core.readers.ingest import ingest
from curate.core.readers.reading import Batch
from curate.core.readers.sources import plan


def work(options: Options) -> Facts:
    """Options: source, way (read, parquet), out."""
    facts: Facts = {}
    with timed(facts):
        if options["way"] == "read":
            found = list(map(_sizes, plan([options["source"]], None, None).batches()))
            facts["kept"], facts["quarantined"] = map(sum, zip(*found, strict=True))
        else:
            got = ingest([options["source"]], Path(options["out"]))
            facts |= {"kept": got.kept, "quarantined": got.quarantined}
    return facts


def _sizes(batch: Batch) -> tuple[int, int]:
    return batch.table.num_rows, len(batch.bad)


if __name__ == "__main__":
    serve(work)
