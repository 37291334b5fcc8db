"""A folder with several kinds of rows: a profile of each, and their sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from siftune.curate.core.errors import DataError
from siftune.curate.dedup.benchmark_items import check_items
from siftune.curate.files.source_spec import SourceSpec
from siftune.curate.io.source_parts import data_files
from siftune.curate.io.sources import files_by_kind
from siftune.curate.profiling.scoring import Asked
from siftune.curate.runs.recipe import Recipe

__all__ = ["by_kind", "joined", "readable"]


def by_kind(recipe: Recipe) -> tuple[list[Recipe], list[str]]:
    """A recipe of the files of each kind of rows, and the files of 0 bytes, which are left out.

    Raises:
        DataError: a source is not data, or has no format; also where all files are empty.
    """
    sources: list[str] = []
    empty: list[str] = []
    for source in recipe.source:
        files = data_files(source)
        without = [file for file in files if not Path(file).stat().st_size]
        sources += [file for file in files if file not in without] if without else [source]
        empty += without
    if recipe.given or not sources:
        return [recipe], []
    recipe = replace(recipe, source=tuple(sources))
    kinds = files_by_kind(recipe.source, recipe.format, recipe.map, recipe.pairs)
    if len(kinds) == 1:
        return [recipe], empty
    return [replace(recipe, source=tuple(files)) for files in kinds.values()], empty


def readable(asked: Asked) -> tuple[Asked, list[dict[str, Any]]]:
    """The options with the benchmarks that can be read, and why others are not looked for.

    Raises:
        DataError: there is no such file.
    """
    good, bad = [], []
    for against in asked.against:
        try:
            check_items(against)
            good.append(against)
        except DataError as error:
            if not Path(SourceSpec.of(against, "against").path).exists():
                raise
            bad.append({"part": "leaks", "why": str(error)})
    return replace(asked, against=tuple(good)), bad


def joined(kinds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of each kind, with what is counted over all of them."""
    seconds: Counter[str] = Counter()
    for one in kinds:
        seconds.update(one["cost"]["cpu_seconds"])
    return {
        "kinds": kinds,
        "formats": sorted({name for one in kinds for name in one["formats"]}),
        "rows": sum(one["rows"] for one in kinds),
        "records": sum(one["records"] for one in kinds),
        "quarantined": [reason for one in kinds for reason in one["quarantined"]],
        "not_looked_at": [],
        "cost": {
            "cpu_seconds": dict(seconds),
            "seconds": round(sum(one["cost"]["seconds"] for one in kinds), 1),
            "peak_mb": max(one["cost"]["peak_mb"] for one in kinds),
        },
    }
