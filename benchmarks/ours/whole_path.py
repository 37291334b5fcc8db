"""A whole run: read, exact, fuzzy, select, kept rows and ledger written."""

from __future__ import annotations

import cProfile
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import orjson

from benchmarks.worker import Facts, Options, serve, timed
from curate.core.recipe import parse
from curate.runners.outputs import write_ledger
from curate.runners.run import run


def work(options: Options) -> Facts:
    """Options: recipe, out, profile (a file for `pstats`, or nothing)."""
    facts: Facts = {}

    def timed_ledger(*given: object, **named: object) -> None:
        with timed(facts, "ledger_"):
            write_ledger(*given, **named)  # type: ignore[arg-type]

    profile = cProfile.Profile() if options.get("profile") else None
    held = patch("curate.runners.run.write_ledger", timed_ledger)
    with held, timed(facts), profile or nullcontext():
        result = run(parse(options["recipe"]), Path(options["out"]))
    if profile:
        profile.dump_stats(options["profile"])
    manifest = orjson.loads((result.out / "manifest.json").read_bytes())
    return facts | {"counts": manifest["counts"], "clock": manifest["clock"]}


if __name__ == "__main__":
    serve(work)
