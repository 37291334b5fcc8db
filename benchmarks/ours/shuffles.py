"""The decisions of a selector on a table and on shuffles of it: how many shuffles change them."""

from __future__ import annotations

import polars as pl

from benchmarks.worker import Facts, Options, serve, timed
from siftune.curate.core.registry import build


def work(options: Options) -> Facts:
    """Options: table, columns, selector, settings, shuffles."""
    facts: Facts = {}
    selector = build("curate.selectors", options["selector"], options["settings"])
    table = pl.read_parquet(options["table"], columns=options["columns"])
    with timed(facts):
        first = _decided(selector, table)
        facts["changed"] = sum(
            not first.equals(_decided(selector, table.sample(fraction=1, shuffle=True, seed=seed)))
            for seed in range(options["shuffles"])
        )
    return facts


def _decided(selector: object, table: pl.DataFrame) -> pl.DataFrame:
    found: pl.DataFrame = table.select("id").hstack(selector(table))  # type: ignore[operator]
    return found.sort("id")


if __name__ == "__main__":
    serve(work)
