"""Plan of a run: its stages, their keys, and which of them are done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

import polars as pl

from siftune.curate.core.custom_file import short_name
from siftune.curate.core.errors import SiftuneError, UsageError, raise_all
from siftune.curate.core.registry import closest
from siftune.curate.core.schema import KINDS, SOME, Kind, kind_of, schema_of
from siftune.curate.dedup.reference_rows import reference_schema
from siftune.curate.files.atomic import digest_of
from siftune.curate.files.source_spec import reference_name
from siftune.curate.io import sources
from siftune.curate.io.reading import Reading
from siftune.curate.io.source_parts import expand, name_parts
from siftune.curate.rows.columns import (
    Reader,
    base_column,
    field_advice,
    nearest_columns,
    raw_fields,
)
from siftune.curate.rows.conversation_views import score_schema
from siftune.curate.rows.table import ROW, resolve
from siftune.curate.runners.project_cache import StageCache
from siftune.curate.runners.run_folder import key_of_sources
from siftune.curate.runs.recipe import Recipe, Spec, component
from siftune.curate.runs.stage_store import StageStore, ingest_code, option_files, stage_code

__all__ = ["Plan", "Step", "check_columns", "plan"]


@dataclass(frozen=True)
class Step:
    """One stage of a plan: its label in the ledger, and the key of its output.

    ``writes`` are further paths that it writes: it is done again where one is missing.
    """

    label: str
    spec: Spec
    key: str
    done: bool
    writes: tuple[str, ...] = ()
    kept: int | None = None  # rows, of a selector that is done

    @property
    def name(self) -> str:
        """The component's name in names of files: of a user's own, the part behind its file."""
        return short_name(self.spec.name)


_Schema: TypeAlias = Mapping[str, pl.DataType | type[pl.DataType]]
_RAW: Final = (".jsonl", ".ndjson", ".json", ".csv")  # of files whose rows have no scores of ours
_SHOWN: Final = 8  # sources that an error names
_SAMPLE: Final = 1000  # rows whose fields an error may name
_Stamp: TypeAlias = tuple[int, int] | None
"""Size and modification time; None where there is no file."""


@dataclass(frozen=True)
class Plan:
    """Inputs, keys and steps of a run."""

    recipe: Recipe
    inputs: list[dict[str, Any]]  # each file that is read, with the hash of its bytes
    ingest_key: str
    ingested: bool
    steps: list[Step]
    seen: Mapping[Path, _Stamp] = field(default_factory=dict)
    rows: Path | None = None  # the ingested rows, if they are there
    kind: Kind | None = None  # of the rows

    def changed(self) -> list[Path]:
        """Files that changed since they were hashed, or are gone."""
        return [path for path, stamp in self.seen.items() if _stamp(path) != stamp]


def plan(
    recipe: Recipe,
    out: Path,
    inputs: list[dict[str, Any]] | None = None,
    cache: StageCache | None = None,
) -> Plan:
    """The stages with their keys, and which of them are done already; nothing is written.

    ``inputs`` are the files with their hashes, where they are known. Stages in ``cache`` count as
    done.

    Raises:
        UsageError: a stage reads a column that does not exist at that point.
        DataError: a source cannot be read.
    """
    stages = StageStore(out / "stages")
    seen: dict[Path, _Stamp] = {}
    if inputs is None:
        try:
            parts = [part for source in recipe.source for part in expand(source)]
        except SiftuneError as error:
            raise_all([error, *_wrong_of_any_rows(recipe)])
        seen = {path: _stamp(path) for part in parts for path in part.paths}
        inputs = [{"path": p.shown, "sha256": p.sha256(), "bytes": p.size} for p in parts]
    reading = _reading(recipe)
    ingest_key = digest_of(
        [
            [item["sha256"] for item in inputs],
            key_of_sources(recipe),
            recipe.format,
            dict(recipe.map),
            recipe.limit,
            *map(asdict, recipe.given.values()),
            *([recipe.pairs] if recipe.pairs else []),
            ingest_code(source.format_name for source in reading.sources if source.format),
        ]
    )
    rows = _ingested(stages, cache, ingest_key)
    kind = check_columns(recipe, rows, reading=reading)
    rows_key, made_by = ingest_key, dict[str, str]()
    steps = []
    for number, spec in enumerate(recipe.stages, 1):
        key = _key(spec, recipe.seed, rows_key, made_by)
        label = _label(number, spec)
        writes: tuple[str, ...] = getattr(component(spec, recipe.seed), "writes", ())
        name = short_name(spec.name)
        done = stages.done(name, key, writes)
        if done is None and cache is not None and not writes:
            done = cache.has(name, key)
        kept = None if done is None else done.facts.get("kept")
        steps.append(Step(label, spec, key, done is not None, writes, kept))
        if spec.group == "select":
            rows_key = key
        else:
            made_by |= dict.fromkeys(_adds(spec, recipe.seed), key)
    return Plan(recipe, inputs, ingest_key, rows is not None, steps, seen, rows, kind)


def _ingested(stages: StageStore, cache: StageCache | None, key: str) -> Path | None:
    """Path of the rows of a finished ingestion."""
    if stages.done("ingest", key) is not None:
        return stages.path("ingest", key)
    found = cache is not None and cache.has("ingest", key) is not None
    return cache.path("ingest", key) if cache is not None and found else None


def _stamp(path: Path) -> _Stamp:
    if not path.is_file():
        return None
    known = path.stat()
    return known.st_size, known.st_mtime_ns


def _label(number: int, spec: Spec) -> str:
    return f"{number}:{short_name(spec.name)}"


def check_columns(
    recipe: Recipe,
    rows: Path | None = None,
    numbers: Sequence[int] | None = None,
    reading: Reading | None = None,
) -> Kind:
    """Refuse columns and references that a stage cannot use, before any work is done.

    Returns the kind of the rows. ``numbers`` are the stages' numbers, where some are left out.

    Raises:
        UsageError: a column does not exist at that point, or has a type that the stage cannot
            read; the text names the stage, the column, and the existing columns. Several problems
            are all listed.
        DataError: no row of the source, or of a reference, can be read.
    """
    reading = reading or _reading(recipe, numbers)
    kind, there = _own_columns(reading, rows)
    fields = partial(_raw_fields, reading, rows)
    made = [component(spec, recipe.seed) for spec in recipe.stages]
    at = numbers or range(1, len(made) + 1)
    labels = [_label(number, spec) for number, spec in zip(at, recipe.stages, strict=True)]
    adds, problems = list[_Schema](), list[SiftuneError]()
    for label, spec, one in zip(labels, recipe.stages, made, strict=True):
        try:
            adds.append(_added(spec, one, kind))
        except UsageError as error:
            adds.append({})
            problems.append(UsageError(f"stage {label}: {error}"))
        taken = sorted(adds[-1].keys() & _taken(kind))
        problems += [UsageError(f"stage {label}: {_TAKEN.format(name)}") for name in taken]
    problems += _added_twice(recipe.stages, labels, adds)
    for place, (label, one) in enumerate(zip(labels, made, strict=True)):
        for wrong in _wrong_columns(one, there, kind, fields):
            missing = set(one.needs) - set(there)
            later = [
                f"; stage {other} adds it, but later"
                for other, added in zip(labels[place + 1 :], adds[place + 1 :], strict=True)
                if set(added) & missing
            ]
            problems.append(UsageError("".join([f"stage {label}: {wrong}", *later[:1]])))
        problems += [type(e)(f"stage {label}: against: {e}") for e in _wrong_reference(one)]
        problems += [
            UsageError(f"stage {label}: {problem}") for problem in _unknown(one, recipe, rows)
        ]
        there = {**there, **adds[place]}
    raise_all(problems)
    return kind


def _added_twice(
    stages: Sequence[Spec], labels: Sequence[str], adds: Sequence[_Schema]
) -> Iterator[UsageError]:
    """Problems of scorers that would replace what another one added; the same again is none."""
    known: dict[str, int] = {}
    for at, (spec, columns) in enumerate(zip(stages, adds, strict=True)):
        before = next((known[name] for name in columns if name in known), at)
        if stages[before] != spec:
            names = ", ".join(name for name in columns if name in known)
            yield UsageError(
                f"stage {labels[at]}: it adds {names}, which stage {labels[before]} adds too, and "
                "would replace it: leave one of them out, or give a function of yours another name"
            )
        known |= {name: known.get(name, at) for name in columns}


def _reading(recipe: Recipe, numbers: Sequence[int] | None = None) -> Reading:
    """The sources of a recipe with their formats.

    Raises:
        SiftuneError: one cannot be read; the text also has what is wrong with stages.
    """
    try:
        return sources.plan(recipe.source, recipe.format, recipe.map, recipe.given, recipe.pairs)
    except SiftuneError as error:
        raise_all([error, *_wrong_of_any_rows(recipe, numbers)])
        raise


def _wrong_of_any_rows(
    recipe: Recipe, numbers: Sequence[int] | None = None
) -> Iterator[SiftuneError]:
    """Problems of stages that do not depend on the rows, for sources that cannot be read.

    These are references that cannot be read, and columns that no raw rows and no scorer have.
    """
    raw = all(Path(source).suffix in _RAW for source in recipe.source)
    there = {name for kind in KINDS for name in (*schema_of(kind), *SOME.get(kind, ()))}
    for number, spec in zip(numbers or count(1), recipe.stages, strict=False):
        made = component(spec, recipe.seed)
        label = _label(number, spec)
        missing = [name for name in made.needs if name not in there | {"content", "*"}]
        for name in missing if raw else ():
            advice = nearest_columns(name, sorted(there))
            yield UsageError(f"stage {label}: no column {name!r} in any rows; {advice}")
        for error in _wrong_reference(made):
            yield type(error)(f"stage {label}: against: {error}")
        if spec.group == "score":
            there |= {*_adds(spec, recipe.seed)}


_TAKEN: Final = (
    "it adds the column {0!r}, a name that rows have for their own: give the function, or the "
    "column in its attribute `adds`, another name"
)


def _taken(kind: Kind) -> set[str]:
    """Names of columns that no scorer may add: those of rows, and what components ask for."""
    return {ROW, "content", "prompt", "response", *schema_of(kind), *SOME.get(kind, ())}


def _added(spec: Spec, made: Any, kind: Kind) -> _Schema:
    if spec.group == "select":
        return dict(getattr(made, "adds", {}))
    return score_schema(made, kind, spec.sides, spec.turns)


def _wrong_columns(
    made: Any, there: _Schema, kind: Kind, fields: Callable[[], Collection[str]]
) -> list[UsageError]:
    """Problems of the columns that a component reads: one is missing, or of another type.

    ``fields`` are those of the raw rows that have no column.
    """
    reads = getattr(made, "reads", ())

    def fits(name: str, column: str) -> bool:
        """Whether ``column`` could be read in place of ``name``."""
        readers = [(column, read) for asked, read in reads if base_column(asked) == name]
        return column != "extra" and not _unreadable(readers, there)

    try:
        resolve(made.needs, list(there), kind, fits)
    except UsageError as error:
        missing = (name for name in made.needs if name not in there)
        advice = next(filter(None, (field_advice(name, fields()) for name in missing)), "")
        return [UsageError(f"{error}{advice}")]
    return _unreadable(reads, there)


def _wrong_reference(made: Any) -> list[SiftuneError]:
    """Problems of the reference of a component, by its first records."""
    against = getattr(made, "against", None)
    if against is None:
        return []
    try:
        if hasattr(made, "check_reference"):  # it reads other layouts than those of rows
            made.check_reference()
            return []
        there = reference_schema(against)
    except SiftuneError as error:
        return [error]
    return [*_unreadable(getattr(made, "reads_reference", ()), there)]


def _unknown(made: Any, recipe: Recipe, rows: Path | None) -> list[str]:
    """Names in ``prefer_source`` that no source of the rows has, each with the existing names."""
    preferred = getattr(made, "prefer_source", ())
    if not preferred:
        return []
    names = tuple(sorted(_source_names(recipe, rows)))
    unknown = (name for name in preferred if name not in names)
    return [
        f"prefer_source: no source is called {name!r}; {closest(name, names)} (sources: "
        f"{', '.join(names[:_SHOWN])})"
        for name in unknown
    ]


def _source_names(recipe: Recipe, rows: Path | None) -> set[str]:
    """Values of the column ``source``: names of raw files, and those in tables of ours."""
    parts = [part for source in recipe.source for part in expand(source)]
    tables = [part.paths[0] for part in parts if part.container == "rows"]
    tables += [rows] if rows is not None else []
    inside = [pl.read_parquet(path, columns=["source"], glob=False)["source"] for path in tables]
    return {*name_parts(parts), *(name for column in inside for name in column.unique())}


def _unreadable(reads: Iterable[tuple[str, Reader]], there: _Schema) -> list[UsageError]:
    none, problems = pl.DataFrame(schema=there), []
    for name, read in reads:
        try:
            read(none, name)
        except UsageError as error:
            problems.append(error)
    return problems


def _own_columns(reading: Reading, rows: Path | None) -> tuple[Kind, _Schema]:
    """The kind and the columns of the ingested rows, or of those to be ingested."""
    if rows is not None:
        none = pl.scan_parquet(rows, glob=False).head(1).collect()
        return kind_of(none), none.schema
    return reading.kind, reading.schema


def _raw_fields(reading: Reading, rows: Path | None) -> list[str]:
    """Fields in ``extra`` of the first rows."""
    if rows is not None:
        return raw_fields(pl.read_parquet(rows, columns=["extra"], n_rows=_SAMPLE)["extra"])
    return raw_fields(pl.Series(next(reading.batches(_SAMPLE)).table["extra"].to_pylist()))


def _key(spec: Spec, seed: int, rows_key: str, made_by: Mapping[str, str]) -> str:
    """Hash of all that a stage's output depends on; a stage with another hash is run again."""
    made = component(spec, seed)
    needs = (*made.needs, *getattr(made, "wants", ()))
    reads = {
        need: made_by.get(need, made_by.get(f"chosen_{need}", ""))
        for need in (*needs, *(made_by if "*" in needs else ()))
    }
    given = {name: getattr(made, name) for name in made.__dataclass_fields__ if name != "cache"}
    placeless = {name: reference_name(value) or value for name, value in given.items()}
    return digest_of(
        [
            [spec.group, short_name(spec.name), spec.sides, spec.turns],
            repr(sorted(placeless.items())),
            rows_key,
            sorted(reads.items()),
            stage_code(spec),
            option_files(given),
            made.describe() if hasattr(made, "describe") else None,
        ]
    )


def _adds(spec: Spec, seed: int) -> list[str]:
    made = component(spec, seed)
    names = list(made.adds)
    gaps = [f"{name}_gap" for name in getattr(made, "gaps", ())]
    return [*names, *(f"{side}_{name}" for side in ("chosen", "rejected") for name in names), *gaps]
