"""A whole run: read, exact, fuzzy, select, kept rows and ledger written."""

from __future__ import annotations

import cProfile
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson

from benchmarks.worker import Facts, Options, serve, timed
from siftune.curate.runners.forecast import Forecast, forecast
from siftune.curate.runners.results import write_ledger
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse


def work(options: Options) -> Facts:
    """Options: recipe, out, profile (a file for `pstats`, or nothing).

    The run predicts its cost first, as on the command line; that is part of the cost.
    """
    facts: Facts = {}
    shutil.rmtree(options["out"], ignore_errors=True)  # what is done already is not done again

    def timed_ledger(*given: object, **named: object) -> None:
        with timed(facts, "ledger_"):
            write_ledger(*given, **named)  # type: ignore[arg-type]

    def timed_forecast(*given: Any) -> list[Forecast]:
        with timed(facts, "foretelling_"):
            found = forecast(*given)
        known = [one.seconds for one in found if one.seconds]
        facts["foretold"] = [sum(seconds[end] for seconds in known) for end in (0, 1)]
        return found

    profile = cProfile.Profile() if options.get("profile") else None
    held = patch("siftune.curate.runners.run.write_ledger", timed_ledger)
    asked = patch("siftune.curate.runners.run.forecast", timed_forecast)
    with held, asked, timed(facts), profile or nullcontext():
        result = run(parse(options["recipe"]), Path(options["out"]), show_forecast=True)
    if profile:
        profile.dump_stats(options["profile"])
    manifest = orjson.loads((result.out / "manifest.json").read_bytes())
    return facts | {"counts": manifest["counts"], "clock": manifest["clock"]}


if __name__ == "__main__":
    serve(work)
