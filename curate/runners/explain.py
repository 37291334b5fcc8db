"""Trace of one row through a run: content, scores, and each decision with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from siftune.curate.core.errors import DataError, SiftuneError, UsageError, reading
from siftune.curate.core.registry import closest
from siftune.curate.core.schema import BASE, kind_of
from siftune.curate.dedup.reference_rows import read_reference
from siftune.curate.files.output_marker import ANSWERS, PAIRS
from siftune.curate.files.source_spec import SourceSpec, reference_name
from siftune.curate.runs.run_manifest import manifest_of, stage_file, verified

__all__ = ["RowTrace", "StageRecord", "reference_rows_of", "row_trace"]

_SHOWN: Final = 3  # ids that an error names


@dataclass(frozen=True)
class StageRecord:
    """The scores of one stage for the row, or its decision."""

    stage: str
    scores: dict[str, Any] = field(default_factory=dict)
    decision: str | None = None
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RowTrace:
    """The row in each stage; ``survivor`` is the row that a duplicate was dropped for.

    A survivor in a reference (``final.detail["reference"]``) is None where that cannot be read.
    """

    id: str
    content: dict[str, Any] | None
    chapters: list[StageRecord]
    final: StageRecord
    survivor: dict[str, Any] | None = None


def row_trace(run: Path, row_id: str) -> RowTrace:
    """The trace of the row ``row_id``; where pairs were made of rows, that of its first pair.

    Raises:
        UsageError: no finished run, or no such row; the text names the closest id.
    """
    manifest = manifest_of(run)
    last = _one(verified(run, "ledger.parquet"), row_id)
    if last is None and (pair := _pair_of(run, manifest, row_id)) is not None:
        return row_trace(run, pair)
    if last is None:
        raise UsageError(f"{run} has no row {row_id!r}; {_nearest(run, row_id)}")
    final = _record(last["stage"], last)
    chapters = [
        chapter for stage in manifest["stages"][1:] for chapter in _records(run, stage, row_id)
    ]
    return RowTrace(
        row_id,
        _content(run, manifest, row_id),
        chapters,
        final,
        _survivor(run, manifest, final),
    )


def _pair_of(run: Path, manifest: Mapping[str, Any], row_id: str) -> str | None:
    """The pair that a row is in, where the run made pairs of rows."""
    made = [Path(source).name for source in manifest["recipe"]["source"]] == [PAIRS]
    path = run / ANSWERS
    found = _one(path, row_id) if made and path.is_file() else None
    return None if found is None or found["pair"] == row_id else str(found["pair"])


def _survivor(run: Path, manifest: dict[str, Any], final: StageRecord) -> dict[str, Any] | None:
    survivor = final.detail.get("survivor")
    if not isinstance(survivor, str):
        return None
    if "reference" in final.detail:
        found = reference_rows_of(run, manifest, final.stage)
        found = found.filter(pl.col("id") == survivor) if found is not None else None
        return None if found is None or found.is_empty() else _shown(found)
    return _content(run, manifest, survivor)


def reference_rows_of(run: Path, manifest: Mapping[str, Any], stage: str) -> pl.DataFrame | None:
    """The rows that a stage (``2:exact_dedup``) of a run compared its rows with.

    None where the stage has no rows to read, or they are gone or were written after the run.
    """
    number = int(stage.partition(":")[0])
    against = manifest["recipe"]["stages"][number - 1]["options"].get("against")
    if against is None:  # an index, which has no texts
        return None
    path = Path(SourceSpec.of(against, "against").path)
    name = reference_name(str(path))
    if name is not None and (run / name).is_file():  # the folder may have been moved
        path, against = run / name, str(run / name)
    try:
        files = [path, *path.rglob("*")]
        if max(one.stat().st_mtime for one in files) > (run / "manifest.json").stat().st_mtime:
            return None
        return read_reference(against)[0]
    except (SiftuneError, OSError):
        return None


def _records(run: Path, stage: dict[str, Any], row_id: str) -> Iterator[StageRecord]:
    row = _one(stage_file(run, stage), row_id)
    if row is None:
        return
    if "keep" in row:
        yield _record(stage["stage"], row | {"decision": "kept" if row["keep"] else "dropped"})
    else:
        yield StageRecord(stage["stage"], {k: v for k, v in row.items() if k not in ("_row", "id")})


def _record(stage: str, row: dict[str, Any]) -> StageRecord:
    detail = _detail(row["detail"])
    return StageRecord(stage, {}, row["decision"], row["reason"], detail)


def _detail(text: str | None) -> dict[str, Any]:
    """Details of decisions, JSON objects; of quarantine, a sentence."""
    if text is None:
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"said": text}
    return value if isinstance(value, dict) else {"said": text}


def _content(run: Path, manifest: dict[str, Any], row_id: str) -> dict[str, Any] | None:
    path = stage_file(run, manifest["stages"][0])
    with reading(path):
        found = pl.scan_parquet(path, glob=False).filter(pl.col("id") == row_id).collect()
    if found.height == 0:
        return None
    if found.height > 1:
        raise DataError(f"{run} holds {found.height} rows called {row_id!r}: its ids are damaged")
    kind_of(found)
    return _shown(found)


def _shown(rows: pl.DataFrame) -> dict[str, Any]:
    return {
        k: v for k, v in rows.row(0, named=True).items() if k not in BASE or k in ("source", "row")
    }


def _one(path: Path, row_id: str) -> dict[str, Any] | None:
    with reading(path):
        rows = pl.scan_parquet(path, glob=False)
        found = rows.filter(pl.col("id") == row_id).head(1).collect()
    return found.row(0, named=True) if found.height else None


def _nearest(run: Path, row_id: str) -> str:
    path = run / "ledger.parquet"
    with reading(path):
        ids = pl.scan_parquet(path, glob=False).select(pl.col("id").drop_nulls()).head(20_000)
        known = tuple(ids.collect()["id"].to_list()[:2000])
    near = closest(row_id, known)
    if near.startswith("did you"):
        return near
    some = ", ".join(known[:_SHOWN])
    return f"an id is SOURCE:ROW, such as {some}" if known else "it has none"
