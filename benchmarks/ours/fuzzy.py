"""Near-duplicates of a rows table, read, decided and written down: `minhash_dedup`."""

from __future__ import annotations

import polars as pl

from benchmarks.worker import Facts, Options, serve, timed
from curate.core.registry import build


def work(options: Options) -> Facts:
    """Options: table, settings of the selector, out (decisions by id)."""
    facts: Facts = {}
    selector = build("curate.selectors", "minhash_dedup", options["settings"])
    with timed(facts):
        table = pl.read_parquet(options["table"], columns=["id", "kind", "digest", "messages"])
        decided = selector(table)
    facts["kept"] = int(decided["keep"].sum())
    table.select("id").hstack(decided).write_parquet(options["out"])
    return facts


if __name__ == "__main__":
    serve(work)
