"""JSON lines with every guarantee of the reader: as rows batch by batch, or to a table on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.worker import Facts, Options, few_lines, serve, timed
from siftune.curate.io.ingest import ingest
from siftune.curate.io.reading import Batch
from siftune.curate.io.sources import plan


def work(options: Options) -> Facts:
    """Options: source, way (read, parquet), out."""
    facts: Facts = {}
    with tempfile.TemporaryDirectory() as folder:
        _read(few_lines(options["source"], folder), options["way"], Path(folder) / "few")
    with timed(facts):
        facts["kept"], facts["quarantined"] = _read(
            options["source"], options["way"], Path(options["out"])
        )
    return facts


def _read(source: str, way: str, out: Path) -> tuple[int, int]:
    """How many rows are kept, and how many are set aside."""
    if way == "read":
        found = list(map(_sizes, plan([source], None, None).batches()))
        kept, bad = map(sum, zip(*found, strict=True))
        return kept, bad
    got = ingest([source], out)
    return got.kept, got.quarantined


def _sizes(batch: Batch) -> tuple[int, int]:
    return batch.table.num_rows, len(batch.bad)


if __name__ == "__main__":
    serve(work)
