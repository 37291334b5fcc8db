"""Kept rows in the layouts that trainers and other tools read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from curate.core.card import dataset_card
from curate.core.errors import BadRow, UsageError
from curate.core.files import write_text
from curate.core.outputs import check_folder, whole_folder
from curate.core.readers.calls import calls_as_text
from curate.core.registry import build, find, names
from curate.core.schema import Kind, kind_of
from curate.core.story import manifest_of
from curate.core.turn_fields import put_fields
from curate.core.types import Row

__all__ = ["CONTAINERS", "Exported", "export"]

COMMAND = "curate export"
CONTAINERS = ("jsonl", "parquet", "datasets")
TRL: Mapping[Kind, str] = {
    "conversation": "messages",
    "text": "text",
    "preference": "preference",
    "unpaired": "unpaired",
    "ranked": "preference",
}
"""The layout that TRL's trainers read, for each kind; a ranked list becomes best against worst."""


@dataclass(frozen=True)
class Exported:
    """What was written, and the rows that the layout has no place for."""

    path: Path
    rows: int
    left_out: list[tuple[str, str]]  # id, why


def export(run: Path, out: Path, layout: str = "trl", to: str = "jsonl") -> Exported:
    """Write the kept rows of ``run`` to ``out`` in ``layout``, with a dataset card beside them.

    ``layout`` is ``trl`` or the name of a format. Rows that it cannot hold are listed in the result
    and in the card, never dropped silently.

    Raises:
        UsageError: unknown layout or container, one that holds no row of this kind, or ``out`` is
            not an earlier export.
    """
    if to not in CONTAINERS:
        raise UsageError(f"--to: expected one of {', '.join(CONTAINERS)}, got {to!r}")
    check_folder(out, COMMAND, [run])
    manifest_of(run)  # is it a finished run?
    kept = pl.read_parquet(run / "kept.parquet", glob=False)
    kind = kind_of(kept)
    name = TRL[kind] if layout == "trl" else layout
    if name not in names("curate.formats"):
        raise UsageError(f"--format: expected trl or one of {', '.join(names('curate.formats'))}")
    _refuse_other_kinds(name, kind)
    left_out: list[tuple[str, str]] = []
    source = _paired(kept) if kind == "ranked" and name == "preference" else kept
    rows = list(_written(source, name, left_out))
    if kept.height and not rows:
        raise UsageError(f"none of the {kept.height} rows fits {name}: {left_out[0][1]}")
    with whole_folder(out, COMMAND) as part:
        _WRITERS[to](rows, part)
        write_text(part / "README.md", dataset_card(run, name, len(rows), left_out))
    return Exported(out, len(rows), left_out)


def _refuse_other_kinds(name: str, kind: Kind) -> None:
    """A layout holds rows of its own kind; a ranked list also goes out as a pair."""
    fits = [
        other for other in names("curate.formats") if find("curate.formats", other).kind == kind
    ]
    if kind == "ranked":
        fits.append("preference")
    if name not in fits:
        raise UsageError(f"--format: {kind} rows do not fit {name}; these do: {', '.join(fits)}")


def _written(kept: pl.DataFrame, name: str, left_out: list[tuple[str, str]]) -> Iterator[Row]:
    layout = build("curate.formats", name, {})
    for row in kept.iter_rows(named=True):
        row["extra"] = orjson.loads(row["extra"]) if row["extra"] else {}
        if "worst" in row:
            _name_sides(row["extra"], row["best"], row["worst"])
        try:
            yield {**layout.write(row), "id": row["id"]}
        except BadRow as bad:
            left_out.append((row["id"], str(bad)))


def _paired(ranked: pl.DataFrame) -> pl.DataFrame:
    """Each ranked list as one pair: its best against its worst answer."""
    best, worst = pl.col("scores").list.arg_max(), pl.col("scores").list.arg_min()
    scores = ranked.with_columns(
        kind=pl.lit("preference"),
        chosen=pl.col("completions").list.get(best),
        rejected=pl.col("completions").list.get(worst),
        score_chosen=pl.col("scores").list.max(),
        score_rejected=pl.col("scores").list.min(),
        best=best,
        worst=worst,
    )
    return scores.with_columns(
        margin=pl.col("score_chosen") - pl.col("score_rejected"),
        win_probability=pl.lit(None, pl.Float64),
    )


def _name_sides(extra: Row, best: int, worst: int) -> None:
    """Fields of the turns of two answers become those of the pair's sides; the others go."""
    listed = {key: extra.pop(key) for key in [*extra] if key.startswith("completions[")}
    for side, at in (("chosen", best), ("rejected", worst)):
        put_fields(extra, side, listed.get(f"completions[{at}].fields", ()))


def _jsonl(rows: list[Row], folder: Path) -> None:
    with (folder / "train.jsonl").open("wb") as stream:
        for row in rows:
            stream.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def _parquet(rows: list[Row], folder: Path) -> None:
    table = pl.DataFrame(list(map(calls_as_text, rows)), infer_schema_length=None)
    table.write_parquet(folder / "train.parquet", compression="zstd")


def _datasets(rows: list[Row], folder: Path) -> None:
    from datasets import Dataset

    Dataset.from_list(list(map(calls_as_text, rows))).save_to_disk(str(folder))


_WRITERS: Mapping[str, Any] = {"jsonl": _jsonl, "parquet": _parquet, "datasets": _datasets}
