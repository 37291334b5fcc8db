"""One selector on a table of embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from benchmarks.worker import Facts, Options, serve, timed
from siftune.curate.core.registry import build


def work(options: Options) -> Facts:
    """Options: table, selector, settings, out (decisions by row)."""
    facts: Facts = {}
    selector = build("curate.selectors", options["selector"], options["settings"])
    table = pl.read_parquet(options["table"])
    _warm(selector, table)
    with timed(facts):
        decided = selector(table)
    facts["kept"] = int(decided["keep"].sum())
    table.select("id").hstack(decided).write_parquet(options["out"])
    return facts


def _warm(selector: Callable[[pl.DataFrame], pl.DataFrame], table: pl.DataFrame) -> None:
    """Load what is loaded once in a process (numba, torch), as the peers have at this point."""
    selector(table.head(600))  # more than one block of it
    if len(table) >= 20_000:
        import torch

        torch.from_numpy(np.ones((8, 8), np.float32)).bfloat16() @ torch.ones(8, 8).bfloat16()


if __name__ == "__main__":
    serve(work)
