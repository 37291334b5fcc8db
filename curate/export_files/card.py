"""Dataset card of an export: sources, stages, and the rows that the layout left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from siftune.curate.core.errors import reading
from siftune.curate.core.markdown import escaped, table
from siftune.curate.runs.run_manifest import KEPT, manifest_of, verified

__all__ = ["Exported", "LeftOut", "dataset_card", "source_counts"]

_SHOWN = 20  # rows left out that a card lists
_HEAD = ("source", "rows", "dropped", "could not be read", "left out by the layout", "written")


@dataclass(frozen=True)
class LeftOut:
    """A row that the layout has no place for."""

    id: str
    source: str
    why: str


@dataclass(frozen=True)
class Exported:
    """What was written, and the rows that the layout has no place for."""

    path: Path
    rows: int
    left_out: list[LeftOut]
    layout: str
    by_source: Counter[str] = field(default_factory=Counter)  # rows of the run that were written
    table: str = KEPT  # of the run: the rows it kept, or a part that a selector set aside


def dataset_card(run: Path, done: Exported, usage: str | None = None) -> str:
    """Markdown with the front matter that dataset hubs read.

    Names of files, recipes and rows are escaped: they come from users. ``usage`` is a command.
    """
    manifest = manifest_of(run)
    tags = ["siftune", *done.layout.lower().split()]
    front = yaml.safe_dump({"tags": tags, "size_categories": [_size(done.rows)]})
    head = _HEAD if done.table == KEPT else (*_HEAD[:2], "not in this part", *_HEAD[3:])
    parts = [
        f"---\n{front}---",
        f"# {escaped(manifest['recipe']['name'])}",
        _selected(manifest, done),
        *([f"```text\n{usage}\n```"] if usage else []),
        "## Sources",
        table(head, source_counts(run, done)),
        "\n".join(_file(one) for one in manifest["inputs"]),
        "The licence of the sources applies to these rows; the tool does not read it.",
        "## Stages",
        "\n".join(f"- {_stage(stage)}" for stage in manifest["stages"]),
    ]
    if done.left_out:
        parts += ["## Left out by the layout", *_left_out(done)]
    return "\n\n".join(parts) + "\n"


def _selected(manifest: dict[str, Any], done: Exported) -> str:
    """One sentence on how the rows were selected."""
    counts, rows = manifest["counts"], f"{done.rows:,} rows in the layout {done.layout}"
    made = f"Siftune {manifest['siftune']} from {counts['rows']:,}"
    unread = f"{counts['quarantined']:,} could not be read."
    if done.table == KEPT:
        return f"{rows}, selected by {made}: {counts['dropped']:,} dropped, {unread}"
    part = f"{manifest['parts'][done.table]:,} rows of {escaped(done.table)}"
    return f"{rows}: the {part}, the part that was set aside by {made}: {unread}"


def source_counts(run: Path, done: Exported) -> list[tuple[object, ...]]:
    """Rows of each source by outcome (written, dropped, left out), in the order of the sources."""
    path = verified(run, "ledger.parquet")
    source = pl.col("id").str.replace(r":[^:]*$", "").alias("source")  # an id is source:row
    with reading(path):
        decided = pl.scan_parquet(path, glob=False).select(source, "decision")
        counted = decided.group_by("source", maintain_order=True).agg("decision").collect()
    left_out = Counter(row.source for row in done.left_out)
    lines: list[tuple[object, ...]] = []
    for name, decisions in counted.iter_rows():
        by, known = Counter(decisions), name or "unknown"
        others = by["dropped"]
        if done.table != KEPT:  # the rows of a part are among those that were dropped
            others += by["kept"] - left_out[name] - done.by_source[name]
        counts = (others, by["quarantined"], left_out[name], done.by_source[name])
        lines.append((known, len(decisions), *counts))
    return lines


def _file(given: dict[str, Any]) -> str:
    return f"- {escaped(Path(given['path']).name)}, sha256 `{given['sha256']}`"


def _left_out(done: Exported) -> list[str]:
    reasons = Counter(row.why for row in done.left_out).most_common()
    counted = [(why, count) for why, count in reasons[:_SHOWN]]
    listed = [f"- {escaped(row.id)}: {escaped(row.why)}" for row in done.left_out[:_SHOWN]]
    more = len(done.left_out) - _SHOWN
    return [
        table(("reason", "rows"), counted),
        "\n".join([*listed, *([f"- and {more:,} more"] if more > 0 else [])]),
    ]


def _stage(stage: dict[str, Any]) -> str:
    name = escaped(stage["stage"])
    if "reasons" in stage:
        return f"{name}: " + ", ".join(
            f"{n:,} {escaped(why)}" for why, n in stage["reasons"].items()
        )
    if "columns" in stage:
        return f"{name} added {', '.join(map(escaped, stage['columns']))}"
    return f"{name}: {stage['kept']:,} rows read, {stage['quarantined']:,} set aside"


def _size(rows: int) -> str:
    steps = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for limit, name in steps.items() if rows < limit), "n>1M")
