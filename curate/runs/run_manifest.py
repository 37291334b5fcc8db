"""Read and check the manifest of a finished run, and the files that it has hashes of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Final

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from siftune.curate.core.errors import DataError, UsageError, reading
from siftune.curate.core.schema import Kind
from siftune.curate.files.atomic import hash_file, read_json

__all__ = [
    "ANSWER_COLUMNS",
    "KEPT",
    "is_manifest",
    "manifest_of",
    "part_of_run",
    "stage_file",
    "verified",
]

KEPT: Final = "kept.parquet"
ANSWER_COLUMNS: Final = ("id", "pair")
_MANIFEST: Final = "manifest.json"
_Count = Annotated[int, Field(ge=0, strict=True)]
_Text = Annotated[str, Field(strict=True)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Key = Annotated[str, Field(pattern="^[0-9a-f]{16,}$")]
_Label = Annotated[str, Field(pattern=r"^(ingest|[0-9]+:[^/\x00]+)$")]  # part of a file's name


@dataclass(frozen=True)
class _Recipe:
    name: _Text
    source: list[_Text]
    stages: list[dict[str, Any]]
    format: _Text | None


@dataclass(frozen=True)
class _Input:
    path: _Text
    sha256: _Sha256


@dataclass(frozen=True)
class _Counts:
    rows: _Count
    kept: _Count
    dropped: _Count
    quarantined: _Count


@dataclass(frozen=True)
class _Stage:
    stage: _Label
    key: _Key
    sha256: _Sha256
    rows: _Count | None = None
    rows_in: _Count | None = None  # of ingest
    kept: _Count | None = None
    quarantined: _Count | None = None
    reasons: dict[str, _Count] | None = None  # of a selection
    columns: list[_Text] | None = None  # of scores


@dataclass(frozen=True)
class _Manifest:
    """The keys of a manifest that are read; it has more."""

    siftune: _Text
    recipe: _Recipe
    inputs: list[_Input]
    kind: Kind
    counts: _Counts
    stages: Annotated[list[_Stage], Field(min_length=1)]
    outputs: dict[str, _Sha256]
    clock: dict[str, dict[str, _Seconds]]
    parts: dict[str, _Count] = field(default_factory=dict)


def manifest_of(run: Path) -> dict[str, Any]:
    """The manifest of a finished run.

    Raises:
        UsageError: the folder holds none.
        DataError: it is not of the form that a run writes, or its counts do not add up.
    """
    path = run / _MANIFEST
    if not path.is_file():
        raise UsageError(_no_run(run))
    manifest: dict[str, Any] = read_json(path)
    with reading(path):
        _check(manifest)
    return manifest


def _no_run(path: Path) -> str:
    if not path.exists():
        return f"{path}: no such run folder"
    if path.is_file() and (path.parent / _MANIFEST).is_file():
        return f"{path} is a file of a run: name the run folder, {path.parent}"
    if path.is_file():
        ingest = f"siftune curate ingest {quote(str(path))} --out RUN"
        return f"{path} is a file, not a run folder: read it into one first: {ingest}"
    return f"{path} is not a finished run (no manifest.json): run `siftune curate run` first"


def part_of_run(path: Path) -> tuple[Path, str]:
    """The run folder and the table of rows in it that ``path`` names.

    A run folder means its kept rows. The tables are these and the parts that selectors set
    aside, such as ``test.parquet``.

    Raises:
        UsageError: it is another file of a run.
    """
    run = path.parent
    if not path.is_file() or not (run / _MANIFEST).is_file():
        return path, KEPT
    tables = (KEPT, *manifest_of(run).get("parts", {}))
    if path.name not in tables:
        raise UsageError(
            f"{path} holds no rows that the run {run} kept or set aside: name the run folder, or "
            f"{' or '.join(str(run / name) for name in tables)}"
        )
    return run, path.name


def is_manifest(manifest: Any) -> bool:
    """Whether a value has the form of a run's manifest."""
    try:
        _check(manifest)
    except ValueError:
        return False
    return True


def verified(run: Path, name: str) -> Path:
    """The output ``name`` of a finished run, if its content is what the run wrote.

    Raises:
        DataError: it is missing, no file, or its content has changed.
    """
    return _verified(run / name, manifest_of(run)["outputs"].get(name))


def stage_file(run: Path, stage: Mapping[str, Any]) -> Path:
    """The rows, scores or decisions of a stage in a run's manifest, if they are what it wrote.

    Raises:
        DataError: as `verified`.
    """
    name = stage["stage"].rpartition(":")[2]
    path = run / "stages" / f"{name}-{stage['key'][:16]}.parquet"
    return _verified(path, stage["sha256"])


def _verified(path: Path, sha256: str | None) -> Path:
    again = "run the command that wrote it again, which makes it anew"
    if not path.is_file():  # nor a pipe, which would be waited for
        raise DataError(f"{path} is missing, or is no file: {again}")
    if hash_file(path) != sha256:
        raise DataError(
            f"{path} was damaged or changed (manifest.json has another sha256): {again}"
        )
    return path


def _check(manifest: Any) -> None:
    """Check the form of a manifest.

    Raises:
        ValueError: the text names the first key that is wrong.
    """
    try:
        found = _adapter().validate_json(orjson.dumps(manifest))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{where}: {first['msg']}") from None
    counts, ingest = found.counts, found.stages[0]
    if counts.rows != counts.kept + counts.dropped + counts.quarantined:
        raise ValueError("counts: rows are not kept + dropped + quarantined")
    if None in (ingest.kept, ingest.quarantined, ingest.rows_in) or ingest.stage != "ingest":
        raise ValueError("stages.0: expected ingest with its counts")
    for stage in found.stages[1:]:
        if stage.rows is None or (stage.reasons is None) == (stage.columns is None):
            raise ValueError(f"stages: {stage.stage}: expected its rows, and reasons or columns")


@cache
def _adapter() -> TypeAdapter[_Manifest]:
    return TypeAdapter(_Manifest)
