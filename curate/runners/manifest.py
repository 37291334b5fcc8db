"""What a run folder says of itself: recipe, inputs, counts, stages, versions, hashes, times."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from siftune.curate.core.errors import UsageError
from siftune.curate.core.terminal import printable
from siftune.curate.files.atomic import hash_file, read_json
from siftune.curate.rows.table import Table
from siftune.curate.runners.folder import OUTPUTS
from siftune.curate.runners.plan import Plan
from siftune.curate.runs.run_manifest import fits
from siftune.curate.runs.stage_store import Done

__all__ = ["manifest_of", "replaced", "unchanged"]

_LIBRARIES = ("siftune", "polars", "pyarrow", "numpy")


def manifest_of(
    plan: Plan, table: Table, notes: Mapping[str, Done], parts: Mapping[str, Table]
) -> dict[str, Any]:
    """All but the hashes of the outputs.

    ``table`` is what is left, ``notes`` are by stage, ``parts`` what was set aside, by file.
    """
    quarantined = int(notes["ingest"].facts["quarantined"])
    return {
        "siftune": version("siftune"),
        "recipe": asdict(plan.recipe),
        "inputs": plan.inputs,
        "kind": table.kind,
        "counts": {
            "rows": table.height + quarantined,
            "kept": len(table.alive),
            "dropped": table.height - len(table.alive),
            "quarantined": quarantined,
        },
        "stages": [
            {"stage": label, "key": done.key, "sha256": done.sha256, **done.facts}
            for label, done in notes.items()
        ],
        **({"parts": {name: len(part.alive) for name, part in parts.items()}} if parts else {}),
        "versions": {name: version(name) for name in _LIBRARIES}
        | {"python": platform.python_version()},
        # The only part that differs between two runs of the same thing.
        "clock": {label: done.clock for label, done in notes.items()},
    }


def replaced(plan: Plan, out: Path) -> Iterator[str]:
    """A line where ``out`` holds a finished run of other sources, which this one replaces."""
    path = out / "manifest.json"
    try:
        old = read_json(path) if path.is_file() else None
    except UsageError:  # damaged
        return
    if old is not None and fits(old) and old["recipe"]["source"] != list(plan.recipe.source):
        rows, source = old["counts"]["rows"], printable(", ".join(old["recipe"]["source"]))
        yield f"{out}: replaces the run of {rows:,} rows of {source} that was there"


def unchanged(out: Path, path: Path, new: Mapping[str, Any]) -> bool:
    """Whether the manifest in ``path`` and the outputs on disk are those of ``new``."""
    try:
        old = read_json(path) if path.is_file() else None
    except UsageError:  # damaged: it is written again
        return False
    if old is None or not fits(old):
        return False
    ignored = {"outputs", "clock"}
    same = {k: v for k, v in old.items() if k not in ignored} == {
        k: v for k, v in _plain(new).items() if k not in ignored
    }
    hashes = old["outputs"]
    names = (*OUTPUTS, *new.get("parts", {}))
    return same and all((out / n).is_file() and hash_file(out / n) == hashes.get(n) for n in names)


def _plain(value: Any) -> Any:
    """``value`` as it reads back from JSON."""
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
