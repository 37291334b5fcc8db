"""What is in a set of rows before any decision, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from siftune.curate.profiling.profile import Profile
from siftune.curate.profiling.profile import profile as make
from siftune.curate.profiling.scoring import Asked
from siftune.curate.runs.recipe import Recipe
from siftune.rows import Rows, read
from siftune.session import as_option, python_errors, reporter

__all__ = ["profile"]


@python_errors()
def profile(
    rows: Any,
    *,
    against: Any = (),
    quality: Any = None,
    toxicity: Any = None,
    label: str | None = None,
    tokenizer: Any = None,
    sample: int = 5_000,
    clusters: int | None = None,
    model: Any = None,
    seed: int = 0,
    parts: Sequence[str] = (),
) -> Profile:
    """What is in a set of rows: languages, tasks, topics, copies, leaks, PII, flags, label noise.

    The profile prints as text and shows as HTML in a notebook; ``to_dict()`` has the figures. What
    was not looked at is listed with the reason. No row is changed.

    Args:
        rows: Anything that `read` takes; of `siftune.Rows` and run folders the kept rows.
        against: Benchmarks whose items are searched for in the rows: a file, rows, or a list.
        quality: Head of `siftune curate fit-quality`, for quality.
        toxicity: Head fitted to toxic texts, or a sequence classifier.
        label: Toxic class of a sequence classifier.
        tokenizer: Tokenizer that lengths are counted in too.
        sample: Largest number of rows that are embedded, judged by a head, or searched for label
            noise.
        clusters: Number of clusters (default: square root of half the sample, at most 20); 0 for
            none.
        model: Embedding model for these (default: all-MiniLM-L6-v2).
        seed: Seed of the sample and of the clusters.
        parts: Parts to look at, such as ``"duplicates"`` (default: all).

    Raises:
        UsageError: an option is wrong.
        DataError: the rows or a benchmark cannot be read.
    """
    found = rows if isinstance(rows, Rows) else read(rows)
    listed = against if isinstance(against, list | tuple) else [against]
    items = [_benchmark(one) for one in listed]
    asked = Asked(
        tuple(as_option(one) for one in items),
        as_option(quality),
        as_option(toxicity),
        label,
        as_option(tokenizer),
        sample,
        clusters,
        as_option(model),
        seed,
        tuple([parts] if isinstance(parts, str) else parts),
    )
    made = make(Recipe("profile", (str(found.folder),)), asked, reporter())
    return replace(made, facts={**made.facts, **_origin(rows, found)})


def _origin(given: Any, rows: Rows) -> dict[str, Any]:
    """Where the rows are from, and the records that could not be read."""
    aside = rows.quarantined
    first = pl.concat_str(pl.col("source"), pl.lit(", row "), pl.col("row").cast(pl.String)).first()
    reasons = aside.group_by("reason", maintain_order=True).agg(
        pl.len().alias("records"), first=first
    )
    named = given if isinstance(given, list | tuple) else [given]
    paths = [str(one) for one in named if isinstance(one, str | Path)]
    return {
        "data": paths or ["rows"],
        "records": rows.counts["rows"],
        "quarantined": reasons.sort("records", descending=True, maintain_order=True).to_dicts(),
    }


def _benchmark(given: Any) -> Any:
    """A benchmark as an option: a path or a mapping as it is, anything else read."""
    return given if isinstance(given, str | Path | Mapping | Rows) else read(given, name="against")
