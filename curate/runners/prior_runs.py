"""What stages took in an earlier run, by its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import read_json
from siftune.curate.runs.recipe import Recipe
from siftune.curate.runs.run_manifest import fits

__all__ = ["Earlier", "earlier"]

_BESIDE: Final = 20  # run folders looked into, the newest


@dataclass(frozen=True)
class Earlier:
    """What a stage took once."""

    cpu_seconds: float
    rows: int
    how: str
    kept: int | None = None  # rows, by a selector


def earlier(recipe: Recipe, out: Path) -> dict[int, Earlier]:
    """What a run in ``out``, or beside it, tells of ``recipe``.

    Keys are 0 for ingest, known by source and format; then the stages, known by their component and
    all its options; behind them the outputs, known by all stages together.
    """
    found: dict[int, Earlier] = {}
    for folder, manifest in _manifests(out):
        for at in range(len(recipe.stages) + 2):
            place = _place(recipe, at, manifest["recipe"])
            one = None if place is None else _took(manifest, place, folder)
            if at not in found and one is not None:
                found[at] = one
    return found


def _place(recipe: Recipe, at: int, then: Mapping[str, Any]) -> int | None:
    """Where the other recipe has what this one has ``at``."""
    stages = [_plain(asdict(spec)) for spec in recipe.stages]
    if at == 0:
        source = _plain([recipe.source, recipe.format])
        return 0 if source == [then["source"], then["format"]] else None
    if at > len(stages):
        return at if stages == then["stages"] else None
    same = [place for place, other in enumerate(then["stages"], 1) if other == stages[at - 1]]
    return same[0] if same else None


def _took(manifest: Mapping[str, Any], place: int, folder: Path) -> Earlier | None:
    """What the manifest says of a place; nothing if it is older than this figure, or had no row."""
    stages = manifest["stages"]
    label = stages[place]["stage"] if place < len(stages) else "outputs"
    took = manifest["clock"].get(label, {}).get("cpu_seconds")
    rows = stages[place]["rows"] if 0 < place < len(stages) else stages[0]["rows_in"]
    known = took is not None and rows
    kept = stages[place].get("kept") if 0 < place < len(stages) else None
    return Earlier(took, rows, f"as in {folder} on {rows:,} rows", kept) if known else None


def _manifests(out: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Those of ``out`` and of the folders beside it, the newest first."""
    beside = [path for path in out.parent.glob("*/manifest.json") if path.parent != out]
    newest = sorted(beside, key=lambda path: path.stat().st_mtime, reverse=True)[:_BESIDE]
    for path in [out / "manifest.json", *newest]:
        if path.is_file() and (manifest := _read(path)) is not None:
            yield path.parent, manifest


def _read(path: Path) -> Mapping[str, Any] | None:
    """A manifest of ours, or none: other tools call files so, too."""
    try:
        found = read_json(path)
    except (UsageError, OSError):
        return None
    return found if fits(found) else None


def _plain(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))
