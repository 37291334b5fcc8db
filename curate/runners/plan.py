"""What a run would do: its stages, their keys, and which of them are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.core.containers import expand
from curate.core.files import digest_of
from curate.core.recipe import Recipe, Spec, component
from curate.core.stages import Stages, code_key, core_key, option_files

__all__ = ["Plan", "Step", "plan"]


@dataclass(frozen=True)
class Step:
    """One stage of a plan: its label in the ledger, and the key that its output is found by."""

    label: str
    spec: Spec
    key: str
    done: bool


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    recipe: Recipe
    inputs: list[dict[str, Any]]
    ingest_key: str
    ingested: bool
    steps: list[Step]


def plan(recipe: Recipe, out: Path) -> Plan:
    """The stages with their keys, and which of them are done already; nothing is written."""
    stages = Stages(out / "stages")
    inputs = _inputs(recipe)
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
    rows_key, made_by = ingest_key, dict[str, str]()
    steps = []
    for number, spec in enumerate(recipe.stages, 1):
        key = _key(spec, recipe.seed, rows_key, made_by)
        label = f"{number}:{spec.name}"
        steps.append(Step(label, spec, key, stages.done(spec.name, key) is not None))
        if spec.group == "select":
            rows_key = key
        else:
            made_by |= dict.fromkeys(_adds(spec, recipe.seed), key)
    ingested = stages.done("ingest", ingest_key) is not None
    return Plan(recipe, inputs, ingest_key, ingested, steps)


def _inputs(recipe: Recipe) -> list[dict[str, Any]]:
    """Each file that the recipe reads, with the hash of its bytes."""
    parts = [part for source in recipe.source for part in expand(source)]
    return [{"path": part.shown, "sha256": part.sha256(), "bytes": part.size} for part in parts]


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
