"""Equal texts of a rows table: `exact_dedup`, or the bare polars expression on the same column."""

from __future__ import annotations

import polars as pl

from benchmarks.worker import Facts, Options, serve, timed
from curate.core.content import text_of
from curate.core.registry import build


def work(options: Options) -> Facts:
    """Options: table, way (selector, bare, bare_text)."""
    facts: Facts = {}
    table = pl.read_parquet(options["table"], columns=["id", "kind", "digest", "messages"])
    text = text_of(table, "both").rechunk()
    selector = build("curate.selectors", "exact_dedup", {})
    with timed(facts):
        match options["way"]:
            case "selector":
                facts["kept"] = int(selector(table)["keep"].sum())
            case "bare":
                facts["kept"] = (
                    text.to_frame("text").unique(keep="first", maintain_order=True).height
                )
            case "bare_with_text":
                made = text_of(table, "both").to_frame("text")
                facts["kept"] = made.unique(keep="first", maintain_order=True).height
    return facts


if __name__ == "__main__":
    serve(work)
