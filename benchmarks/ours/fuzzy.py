"""Near-duplicates of a rows table, read, decided and written down: `minhash_dedup`."""

from __future__ import annotations

import polars as pl

from benchmarks.worker import Facts, Options, serve, timed
from siftune.curate.core.registry import build


def work(options: Options) -> Facts:
    """Options: table, settings of the selector, out (decisions by id).

    What a process loads once (numba, compiled code) is loaded by then, as the peers are imported.
    """
    facts: Facts = {}
    selector = build("curate.selectors", "minhash_dedup", options["settings"])
    columns = ["id", "kind", "digest", "messages"]
    selector(pl.read_parquet(options["table"], columns=columns, n_rows=600))
    with timed(facts):
        table = pl.read_parquet(options["table"], columns=columns)
        decided = selector(table)
    facts["kept"] = int(decided["keep"].sum())
    table.select("id").hstack(decided).write_parquet(options["out"])
    return facts


if __name__ == "__main__":
    serve(work)
