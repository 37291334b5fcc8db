"""JSON lines to a rows table on disk, with every guarantee of the reader."""

from __future__ import annotations

from pathlib import Path

from benchmarks.worker import Facts, Options, serve, timed
from curate.core.ingest import ingest


def work(options: Options) -> Facts:
    """Options: source, out."""
    facts: Facts = {}
    with timed(facts):
        got = ingest([options["source"]], Path(options["out"]))
    facts |= {"kept": got.kept, "quarantined": got.quarantined}
    return facts


if __name__ == "__main__":
    serve(work)
