"""Outputs of a run: the kept rows, a final decision for every row, and the manifest."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from siftune.curate.core.errors import UsageError
from siftune.curate.core.terminal import printable
from siftune.curate.files.atomic import atomic_write, hash_file, read_json
from siftune.curate.rows.score_errors import detail_with, unscored_of
from siftune.curate.rows.table import ROW, Table
from siftune.curate.runners.plan import Plan
from siftune.curate.runners.run_folder import OUTPUTS
from siftune.curate.runs.recipe import Recipe
from siftune.curate.runs.run_manifest import is_manifest
from siftune.curate.runs.stage_store import StoredStage

__all__ = [
    "LEDGER",
    "Prepared",
    "RowGroupWriter",
    "manifest_of",
    "read_quarantine",
    "replaced",
    "replaced_columns",
    "unchanged",
    "write_kept",
    "write_ledger",
    "write_part",
]

LEDGER: Final = pl.Schema(
    {
        "id": pl.String,
        "source": pl.String,
        "stage": pl.String,
        "decision": pl.String,  # kept | dropped | quarantined
        "reason": pl.String,
        "detail": pl.String,
    }
)
_ROWS: Final = 1 << 15  # of a row group
_BYTES: Final = 64 << 20  # of a row group, where rows are long
_PARQUET: Final[Mapping[str, Any]] = {
    "compression": "zstd",
    "compression_level": 1,  # a quarter larger than level 3 on text, at half its time
    "write_page_checksum": True,
}
_ALL_DIFFER: Final = ("id", "row", "digest", "extra", ROW)  # no dictionary: no value repeats
_LIBRARIES = ("siftune", "polars", "pyarrow", "numpy")


@dataclass(frozen=True)
class Prepared:
    """A recipe whose source was made of other rows, and those of them that are not in it.

    ``dropped`` has their decisions (`LEDGER`), ``unread`` the quarantine list of their source.
    """

    recipe: Recipe
    dropped: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LEDGER))
    unread: bytes = b""

    @property
    def counts(self) -> dict[str, int]:
        """Rows by outcome."""
        return {"dropped": self.dropped.height, "quarantined": self.unread.count(b"\n")}

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest has of them: dropped rows by reason, and a hash of all."""
        if not any(self.counts.values()):
            return {}
        listed = self.dropped["reason"].value_counts(sort=True).sort("reason").rows()
        whole = self.dropped.write_ndjson().encode() + self.unread
        return {
            "reasons": {f"dropped/{reason}": count for reason, count in listed},
            "not_in_source": sha256(whole).hexdigest(),
        }


class RowGroupWriter:
    """A parquet file whose row groups depend on the rows alone, not on the parts written.

    With ``most_bytes`` a group also ends after what is written at a time, once it is that large.
    """

    def __init__(self, path: Path, most_bytes: int | None = None) -> None:
        self._path, self._most_bytes = path, most_bytes
        self._file: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> Self:
        return self

    def write(self, rows: pl.DataFrame | pa.Table) -> None:
        """Add rows; each full group is written to disk."""
        if isinstance(rows, pl.DataFrame):
            rows = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        self._waiting.append(rows)
        while sum(part.num_rows for part in self._waiting) >= _ROWS:
            whole = pa.concat_tables(self._waiting)
            self._waiting = [whole[_ROWS:]]
            self._group(whole[:_ROWS])
        size = sum(part.nbytes for part in self._waiting)
        if self._most_bytes is not None and size >= self._most_bytes:
            self._group(pa.concat_tables(self._waiting))
            self._waiting = []

    def _group(self, rows: pa.Table) -> None:
        if self._file is None:
            self._file = pq.ParquetWriter(
                self._path, rows.schema, use_dictionary=_repeating(rows.schema), **_PARQUET
            )
        if rows.num_rows:
            self._file.write_table(rows.combine_chunks())  # pages depend on where chunks end

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        try:
            if error is None and self._waiting:
                self._group(pa.concat_tables(self._waiting))
        finally:
            if self._file is not None:
                self._file.close()


def _repeating(schema: pa.Schema) -> list[str]:
    """Columns with repeated values: names, whole numbers, roles; never a text."""
    plain = [
        f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_large_string(f.type)
    ]
    return [*(name for name in plain if name not in _ALL_DIFFER), "messages.list.element.role"]


def write_kept(path: Path, table: Table) -> None:
    """Write the kept rows with all their columns and scores, a part at a time."""
    with atomic_write(path) as part, RowGroupWriter(part, _BYTES) as groups:
        for rows in table.arrow():
            groups.write(rows)
        if not len(table.alive):
            groups.write(table.gather(table.columns).select(table.columns))


def write_part(path: Path, rows: Table, earlier: Mapping[str, str]) -> None:
    """Write the rows of a part; only a file that the last run here wrote is replaced.

    Raises:
        UsageError: there is another file of that name, with other contents.
    """
    ours = path.name in earlier or not path.is_file()
    with atomic_write(path) as new:
        write_kept(new, rows)
        if not ours and hash_file(path) != hash_file(new):
            raise UsageError(
                f"{path} was not written by this run, which writes a file of that name: move it "
                f"out of {path.parent}, or name another --out"
            )


def write_ledger(
    path: Path,
    rows: Path,
    decisions: Sequence[tuple[str, Path]],
    quarantine: Path,
    errors: pl.DataFrame | None = None,
    before: pl.DataFrame | None = None,
) -> None:
    """Write the final decision on each row, in the order of the rows; quarantined rows last.

    ``errors`` has ``_row`` and the columns of errors of the rows that are kept, whose detail names
    what they were not scored for. ``before`` are decisions on rows that are not among these.

    Every selector decides on a row until one drops it. So the rows that each dropped, and all rows
    of the last selector, are every row once: they are sorted, nothing is joined.

    Raises:
        ValueError: a row has no final decision, or two; a stage file is not as it was written.
    """
    parts = [_dropped(label, path) for label, path in decisions[:-1]]
    parts.append(_decisions(*decisions[-1]) if decisions else _read(rows))
    last = pl.concat(parts)
    order = last[ROW].arg_sort().to_numpy()
    if not np.array_equal(last[ROW].to_numpy()[order], np.arange(pq.read_metadata(rows).num_rows)):
        raise ValueError(f"{path.parent}: not every row has one final decision")
    sources = pl.read_parquet(rows, columns=["source"], glob=False)["source"]
    final = (
        _with_unscored(last[order], errors).with_columns(sources).select(list(LEDGER)).cast(LEDGER)
    )
    final = pl.concat([final, *([] if before is None else [before]), _quarantined(quarantine)])
    with atomic_write(path) as part:
        final.write_parquet(part, compression="zstd", compression_level=1)


def _with_unscored(final: pl.DataFrame, errors: pl.DataFrame | None) -> pl.DataFrame:
    """Decisions in the order of the rows, with the scores that kept rows lack."""
    if errors is None:
        return final
    details = final["detail"].to_list()
    for at, found in zip(errors[ROW].to_list(), unscored_of(errors.drop(ROW)), strict=True):
        if found:
            details[at] = detail_with(details[at], not_scored=found)
    return final.with_columns(detail=pl.Series(details, dtype=pl.String))


def read_quarantine(path: Path) -> pl.DataFrame:
    """The quarantine list as a table; the row's number is in ``line`` or in ``row``."""
    names = ("source", "line", "row", "id", "reason", "detail")
    schema = dict.fromkeys(names, pl.String) | {"line": pl.Int64, "row": pl.Int64}
    parts = [pl.DataFrame(schema=schema)]
    with path.open("rb") as stream:
        while lines := list(islice(stream, _ROWS)):  # parsed, a line takes about a kilobyte
            records = map(orjson.loads, lines)
            listed = [{name: record.get(name) for name in names} for record in records]
            parts.append(pl.DataFrame(listed, schema=schema))
    return pl.concat(parts)


def _decisions(label: str, decided: Path) -> pl.DataFrame:
    word = pl.when("keep").then(pl.lit("kept")).otherwise(pl.lit("dropped"))
    columns = (ROW, "id", pl.lit(label).alias("stage"), word.alias("decision"), "reason", "detail")
    return pl.read_parquet(decided, glob=False).select(columns)


def _dropped(label: str, decided: Path) -> pl.DataFrame:
    return _decisions(label, decided).filter(pl.col("decision") == "dropped")


def _read(rows: Path) -> pl.DataFrame:
    """Decisions of a run without a selector: all rows are kept."""
    ids = (
        pl.read_parquet(rows, columns=["id"], glob=False).with_row_index(ROW).cast({ROW: pl.Int64})
    )
    return ids.with_columns(
        stage=pl.lit("ingest"),
        decision=pl.lit("kept"),
        reason=pl.lit("read"),
        detail=pl.lit(None, pl.String),
    )


def _quarantined(quarantine: Path) -> pl.DataFrame:
    listed = read_quarantine(quarantine).with_columns(
        stage=pl.lit("ingest"), decision=pl.lit("quarantined")
    )
    return listed.select(list(LEDGER)).cast(LEDGER)


def manifest_of(
    plan: Plan,
    table: Table,
    notes: Mapping[str, StoredStage],
    parts: Mapping[str, Table],
    prepared: Prepared,
) -> dict[str, Any]:
    """All but the hashes of the outputs.

    ``table`` is what is left, ``notes`` are by stage, ``parts`` what was set aside, by file.
    """
    before, facts = prepared.counts, {"ingest": prepared.facts}
    quarantined = int(notes["ingest"].facts["quarantined"]) + before["quarantined"]
    dropped = table.height - len(table.alive) + before["dropped"]
    return {
        "siftune": version("siftune"),
        "recipe": asdict(plan.recipe),
        "inputs": plan.inputs,
        "kind": table.kind,
        "counts": {
            "rows": len(table.alive) + dropped + quarantined,
            "kept": len(table.alive),
            "dropped": dropped,
            "quarantined": quarantined,
        },
        "stages": [
            {"stage": label, "key": done.key, "sha256": done.sha256, **done.facts}
            | facts.get(label, {})
            for label, done in notes.items()
        ],
        **({"parts": {name: len(part.alive) for name, part in parts.items()}} if parts else {}),
        "versions": {name: version(name) for name in _LIBRARIES}
        | {"python": platform.python_version()},
        # The only part that differs between two runs of the same thing.
        "clock": {label: done.clock for label, done in notes.items()},
    }


def replaced(plan: Plan, out: Path) -> Iterator[str]:
    """A warning where ``out`` holds a finished run of other sources, which this one replaces."""
    path = out / "manifest.json"
    try:
        old = read_json(path) if path.is_file() else None
    except UsageError:  # damaged
        return
    if old is not None and is_manifest(old) and old["recipe"]["source"] != list(plan.recipe.source):
        rows, source = old["counts"]["rows"], printable(", ".join(old["recipe"]["source"]))
        yield f"{out}: replaces the run of {rows:,} rows of {source} that was there"


def replaced_columns(scorer: object, columns: Sequence[str], table: Table) -> Iterator[str]:
    """A line where rows came with columns that a scorer adds, as those of an earlier run do."""
    came = {*table.columns} - {*table.scores}
    there = [name for name in columns if name in came]
    if there:
        more = f" and {len(there) - 1} more columns" if there[1:] else ""
        advice = "; the option column keeps both" if hasattr(scorer, "column") else ""
        yield f"replaces {there[0]}{more} that the rows came with{advice}"


def unchanged(out: Path, path: Path, new: Mapping[str, Any]) -> bool:
    """Whether the manifest in ``path`` and the outputs on disk are those of ``new``."""
    try:
        old = read_json(path) if path.is_file() else None
    except UsageError:  # damaged: it is written again
        return False
    if old is None or not is_manifest(old):
        return False
    ignored = {"outputs", "clock"}
    same = {k: v for k, v in old.items() if k not in ignored} == {
        k: v for k, v in _plain(new).items() if k not in ignored
    }
    hashes = old["outputs"]
    names = (*OUTPUTS, *new.get("parts", {}))
    return same and all((out / n).is_file() and hash_file(out / n) == hashes.get(n) for n in names)


def _plain(value: Any) -> Any:
    """``value`` after a round trip through JSON."""
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
