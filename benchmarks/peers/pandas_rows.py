"""pandas: reading JSON lines, and dropping equal texts."""

from __future__ import annotations

import pandas as pd

from benchmarks.worker import Facts, Options, serve, timed


def work(options: Options) -> Facts:
    """Options: source (JSON lines) or texts (Parquet)."""
    facts: Facts = {}
    if "source" in options:
        with timed(facts):
            facts["rows_read"] = len(pd.read_json(options["source"], lines=True))
        return facts
    text = pd.read_parquet(options["texts"])["text"]
    with timed(facts):
        facts["kept"] = len(text.drop_duplicates())
    return facts


if __name__ == "__main__":
    serve(work)
