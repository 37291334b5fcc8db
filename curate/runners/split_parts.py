"""Rows that a selector sets aside, such as the test part of a split: a file each in the run."""

from __future__ import annotations

from collections.abc import Container, Mapping
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import aside, hash_file, read_json
from siftune.curate.files.output_marker import expression_of
from siftune.curate.rows.table import Table
from siftune.curate.runners.folder import PARTS
from siftune.curate.runners.results import write_kept
from siftune.curate.runs.recipe import Recipe, component

__all__ = ["earlier_parts", "part_file", "part_names", "remove_parts_but", "write_part"]


def part_file(selector: Any, taken: Container[str]) -> str | None:
    """The name of the file for the rows that a selector sets aside; None if it sets none aside.

    Of several of one name, the first that is not in ``taken``.
    """
    name = getattr(selector, "sets_aside", None)
    if name is None:
        return None
    names = (f"{name}{more}.parquet" for more in chain([""], (f"-{at}" for at in count(2))))
    return next(one for one in names if one not in taken)


def part_names(recipe: Recipe) -> list[str]:
    """The parts that a run of the recipe writes; none of a stage whose options are wrong."""
    names: list[str] = []
    for spec in recipe.stages:
        with suppress(UsageError):  # the plan refuses it, with all others
            if spec.group == "select":
                part = part_file(component(spec, recipe.seed), names)
                names += [] if part is None else [part]
    return names


def earlier_parts(folder: Path) -> dict[str, str]:
    """The parts that the last run in a folder wrote, with the hash of each."""
    manifest = folder / "manifest.json"
    try:
        facts = read_json(manifest) if manifest.is_file() else None
    except UsageError:  # damaged
        return {}
    outputs = facts.get("outputs") if isinstance(facts, dict) else None
    listed = outputs.items() if isinstance(outputs, dict) else ()
    return {name: hashed for name, hashed in listed if _is_part(name)}


def remove_parts_but(folder: Path, names: Container[str], earlier: Mapping[str, str]) -> None:
    """Remove the parts that an earlier recipe wrote; a file that was changed since then stays."""
    for name, hashed in earlier.items():
        path = folder / name
        if name not in names and path.is_file() and hash_file(path) == hashed:
            path.unlink()


def write_part(path: Path, rows: Table, earlier: Mapping[str, str]) -> None:
    """Write a part; it replaces nothing, or a file that the last run here wrote.

    Raises:
        UsageError: there is a file of that name with other contents that no run here wrote.
    """
    ours = path.name in earlier or not path.is_file()
    with aside(path) as new:
        write_kept(new, rows)
        if not ours and hash_file(path) != hash_file(new):
            raise UsageError(
                f"{path} was not written by this run, which writes a file of that name: move it "
                f"out of {path.parent}, or name another --out"
            )


def _is_part(name: str) -> bool:
    return any(expression_of(one).fullmatch(name) for one in PARTS)
