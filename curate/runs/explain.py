"""Trace of one row through a run: content, scores, and each decision with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from siftune.curate.core.errors import DataError, UsageError, reading
from siftune.curate.core.registry import closest
from siftune.curate.core.schema import BASE, kind_of
from siftune.curate.runs.run_manifest import manifest_of, stage_file, verified

__all__ = ["RowTrace", "StageRecord", "row_trace"]

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
    """The row in each stage; ``survivor`` is the row that a duplicate was dropped for."""

    id: str
    content: dict[str, Any] | None
    chapters: list[StageRecord]
    final: StageRecord
    survivor: dict[str, Any] | None = None


def row_trace(run: Path, row_id: str) -> RowTrace:
    """The trace of the row ``row_id``.

    Raises:
        UsageError: no finished run, or no such row; the text names the closest id.
    """
    manifest = manifest_of(run)
    last = _one(verified(run, "ledger.parquet"), row_id)
    if last is None:
        raise UsageError(f"{run} has no row {row_id!r}; {_nearest(run, row_id)}")
    final = _record(last["stage"], last)
    chapters = [
        chapter for stage in manifest["stages"][1:] for chapter in _records(run, stage, row_id)
    ]
    survivor = final.detail.get("survivor")
    return RowTrace(
        row_id,
        _content(run, manifest, row_id),
        chapters,
        final,
        _content(run, manifest, survivor) if isinstance(survivor, str) else None,
    )


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
    return {
        k: v for k, v in found.row(0, named=True).items() if k not in BASE or k in ("source", "row")
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
