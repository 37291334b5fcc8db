"""What a run would do: its stages, their keys, and which of them are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from curate.core.errors import UsageError
from curate.core.files import digest_of
from curate.core.readers import sources
from curate.core.readers.containers import expand
from curate.core.recipe import Recipe, Spec, component
from curate.core.schema import Kind, kind_of
from curate.core.sides import score_columns
from curate.core.stages import Stages, code_key, core_key, option_files
from curate.core.table import resolve

__all__ = ["Plan", "Step", "plan"]


@dataclass(frozen=True)
class Step:
    """One stage of a plan: its label in the ledger, and the key that its output is found by.

    ``writes`` are paths that it writes besides: it is done again where one is gone.
    """

    label: str
    spec: Spec
    key: str
    done: bool
    writes: tuple[str, ...] = ()


_Stamp: TypeAlias = tuple[int, int] | None
"""Size, and when it was written; none where there is no file."""


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    recipe: Recipe
    inputs: list[dict[str, Any]]  # each file that is read, with the hash of its bytes
    ingest_key: str
    ingested: bool
    steps: list[Step]
    seen: Mapping[Path, _Stamp] = field(default_factory=dict)

    def changed(self) -> list[Path]:
        """Files that are not what was hashed: written to since, or gone."""
        return [path for path, stamp in self.seen.items() if _stamp(path) != stamp]


def plan(recipe: Recipe, out: Path, inputs: list[dict[str, Any]] | None = None) -> Plan:
    """The stages with their keys, and which of them are done already; nothing is written.

    ``inputs`` are the files with their hashes, where they are known.

    Raises:
        UsageError: a stage reads a column that is not there by then.
        DataError: a source cannot be read.
    """
    stages = Stages(out / "stages")
    seen: dict[Path, _Stamp] = {}
    if inputs is None:
        parts = [part for source in recipe.source for part in expand(source)]
        seen = {path: _stamp(path) for part in parts for path in part.paths}
        inputs = [{"path": p.shown, "sha256": p.sha256(), "bytes": p.size} for p in parts]
    ingest_key = digest_of(
        [
            [item["sha256"] for item in inputs],
            recipe.source,
            recipe.format,
            dict(recipe.map),
            recipe.limit,
            core_key(),
        ]
    )
    ingested = stages.done("ingest", ingest_key) is not None
    _check_columns(recipe, stages.path("ingest", ingest_key) if ingested else None)
    rows_key, made_by = ingest_key, dict[str, str]()
    steps = []
    for number, spec in enumerate(recipe.stages, 1):
        key = _key(spec, recipe.seed, rows_key, made_by)
        label = _label(number, spec)
        writes: tuple[str, ...] = getattr(component(spec, recipe.seed), "writes", ())
        done = stages.done(spec.name, key, writes) is not None
        steps.append(Step(label, spec, key, done, writes))
        if spec.group == "select":
            rows_key = key
        else:
            made_by |= dict.fromkeys(_adds(spec, recipe.seed), key)
    return Plan(recipe, inputs, ingest_key, ingested, steps, seen)


def _stamp(path: Path) -> _Stamp:
    if not path.is_file():
        return None
    known = path.stat()
    return known.st_size, known.st_mtime_ns


def _label(number: int, spec: Spec) -> str:
    return f"{number}:{spec.name}"


def _check_columns(recipe: Recipe, rows: Path | None) -> None:
    """Every column that a stage reads is there by then: told before any work is done.

    Raises:
        UsageError: one is not; the text names the stage, the column, and the columns there are.
        DataError: no row of the source can be read.
    """
    kind, there = _own_columns(recipe, rows)
    made = [component(spec, recipe.seed) for spec in recipe.stages]
    adds = [
        score_columns(one, kind, spec.sides) if spec.group == "score" else []
        for spec, one in zip(recipe.stages, made, strict=True)
    ]
    for number, (spec, one) in enumerate(zip(recipe.stages, made, strict=True), 1):
        try:
            resolve(one.needs, there, kind)
        except UsageError as error:
            later = [
                f"; stage {_label(at, recipe.stages[at - 1])} adds it, but later"
                for at in range(number + 1, len(made) + 1)
                if set(adds[at - 1]) & (set(one.needs) - set(there))
            ]
            told = "".join([str(error), *later[:1]])
            raise UsageError(f"stage {_label(number, spec)}: {told}") from None
        there = [*there, *adds[number - 1]]


def _own_columns(recipe: Recipe, rows: Path | None) -> tuple[Kind, list[str]]:
    """The kind and the columns of the rows, as they are, or will be, ingested."""
    if rows is not None:
        none = pl.scan_parquet(rows, glob=False).head(1).collect()
        return kind_of(none), none.columns
    reading = sources.plan(recipe.source, recipe.format, recipe.map)
    return reading.kind, list(reading.schema)


def _key(spec: Spec, seed: int, rows_key: str, made_by: Mapping[str, str]) -> str:
    """Hash of all that a stage's output depends on: it is rerun when that changes, only then."""
    made = component(spec, seed)
    reads = {
        need: made_by.get(need, made_by.get(f"chosen_{need}", ""))
        for need in (*made.needs, *getattr(made, "wants", ()))
    }
    given = {name: getattr(made, name) for name in made.__dataclass_fields__ if name != "cache"}
    return digest_of(
        [
            [spec.group, spec.name, spec.sides, spec.turns],
            repr(sorted(given.items())),
            rows_key,
            sorted(reads.items()),
            code_key(spec),
            option_files(given),
            made.describe() if hasattr(made, "describe") else None,
        ]
    )


def _adds(spec: Spec, seed: int) -> list[str]:
    made = component(spec, seed)
    names = list(made.adds)
    return [*names, *(f"{side}_{name}" for side in ("chosen", "rejected") for name in names)]
