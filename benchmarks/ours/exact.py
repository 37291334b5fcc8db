"""Equal rows of a rows table: `exact_dedup`, or a bare polars expression on the same column."""

from __future__ import annotations

from typing import Any

import polars as pl

from benchmarks.worker import Facts, Options, serve, timed
from siftune.curate.core.registry import build
from siftune.curate.rows.chat import text_of


def work(options: Options) -> Facts:
    """Options: table, of (content, prompt, response, both), way.

    ``selector`` is ours; ``unique`` and ``hash`` are the exact expression and the one by 64-bit
    hashes, on a column that is there already: the digest, or the joined text; ``joined unique``
    joins the text first, as it has to where it starts from a rows table. Each has done the same to
    a few rows before.
    """
    facts: Facts = {}
    table = pl.read_parquet(options["table"], columns=["id", "kind", "digest", "messages"])
    of, way = options["of"], options["way"]
    selector = build("curate.selectors", "exact_dedup", {"of": of})
    ready = _column(table, of) if way in ("unique", "hash") else None

    def kept(table: pl.DataFrame, ready: pl.Series | None) -> int:
        if way == "selector":
            return int(selector(table)["keep"].sum())
        return _bare(_column(table, of) if ready is None else ready, way)

    kept(table.head(600), None if ready is None else ready.head(600))
    with timed(facts):
        facts["kept"] = kept(table, ready)
    return facts


def _column(table: pl.DataFrame, of: Any) -> pl.Series:
    return table["digest"] if of == "content" else text_of(table, of).rechunk()


def _bare(column: pl.Series, way: str) -> int:
    frame = column.to_frame("text")
    if way == "hash":
        return frame.filter(pl.col("text").hash().is_first_distinct()).height
    return frame.unique(keep="first", maintain_order=True).height


if __name__ == "__main__":
    serve(work)
