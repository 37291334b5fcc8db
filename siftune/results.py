"""What runs leave, for people: why a row was kept or dropped, tables of decisions, summaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.render import as_text
from siftune.curate.runners.explain import RowTrace, row_trace
from siftune.curate.runners.results import read_quarantine
from siftune.curate.runs.run_manifest import stage_file
from siftune.session import python_errors, without_scratch

if TYPE_CHECKING:
    from siftune.curate.commands.label_join import LabelRow
    from siftune.curate.judge_stats.report import AgreementReport, Kind
    from siftune.curate.vectors.set_figures import SetFigures

__all__ = [
    "Explanation",
    "agree",
    "decisions",
    "every_row",
    "explain",
    "measure",
    "quarantined",
    "report",
    "set_apart",
]

_HEAD: Final = 5
"""Rows that a notebook shows."""
_NAMED: Final = 4
"""Columns of a scorer that a summary names."""


@dataclass(frozen=True, repr=False)
class Explanation:
    """Why one row was kept or dropped: its content, scores and decisions, stage by stage."""

    trace: RowTrace

    @property
    def id(self) -> str:
        """The row's id."""
        return self.trace.id

    @property
    def decision(self) -> str:
        """``kept``, ``dropped`` or ``quarantined``."""
        return str(self.trace.final.decision)

    @property
    def stage(self) -> str:
        """The stage that decided, such as ``2:minhash_dedup``."""
        return self.trace.final.stage

    @property
    def reason(self) -> str:
        """Why, in short: ``near_duplicate``, ``below_cutoff``, ..."""
        return str(self.trace.final.reason)

    @property
    def detail(self) -> dict[str, Any]:
        """The particulars of the decision, such as the row that a duplicate was dropped for."""
        return self.trace.final.detail

    @property
    def scores(self) -> dict[str, Any]:
        """All scores of the row, by column."""
        return {key: one for part in self.trace.chapters for key, one in part.scores.items()}

    @property
    def content(self) -> dict[str, Any]:
        """The row itself; empty for a record that could not be read."""
        return self.trace.content or {}

    @property
    def survivor(self) -> dict[str, Any] | None:
        """The row that a duplicate was dropped for."""
        return self.trace.survivor

    def __repr__(self) -> str:
        """As `siftune curate explain` prints it."""
        return without_scratch(as_text(self.trace))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


@python_errors()
def explain(run: Any, row_id: str) -> Explanation:
    """Why the row ``row_id`` was kept or dropped in ``run``: `siftune.Rows`, or a run folder.

    Raises:
        UsageError: no finished run, or no such row; the text names the closest id.
    """
    if not isinstance(row_id, str):
        raise UsageError(f"explain: an id is a text, such as 'rows:3', got {row_id!r}")
    return Explanation(row_trace(_folder(run), row_id))


def _folder(run: Any) -> Path:
    return Path(getattr(run, "folder", run))


@python_errors()
def report(run: Any, out: str | Path | None = None) -> Path:
    """Write the report of a curate or pipeline run, one HTML file that works offline.

    ``run`` is a run folder, `siftune.Rows` or what a pipeline returned; ``out`` is by default
    ``report.html`` in the run folder. Needs ``pip install siftune[report]``.

    Returns:
        The file.
    """
    from siftune.pipelines.reports.report import write_report

    return write_report(_folder(run), None if out is None else Path(out))


@python_errors()
def agree(
    judged: Any,
    gold: Any,
    judge: str | Sequence[str],
    *,
    label: str | None = None,
    on: str | None = None,
    prompt: str | None = None,
    level: Kind | None = None,
    tie: str = "tie",
    win: str | None = None,
    worst: int = 5,
) -> AgreementReport:
    """How the labels of judges agree with gold ones, with 95 % intervals.

    Args:
        judged: Rows with the judges' labels: `siftune.Rows`, a frame, a list of dicts, a path.
        gold: The same with the true labels, of some or all of the rows.
        judge: Column of ``judged``; several are compared, and voted as a panel.
        label: Column of ``gold`` (default: the name of the judge's).
        on: Column that both have, one value a row (default: ``id``, else ``digest``).
        prompt: Column of ``judged`` whose equal values are one draw of the intervals.
        level: ``nominal``, ``ordinal``, ``interval`` or ``probability``; found from the labels.
        tie: Label of a tie; also 0.5 beside 0 and 1.
        win: Label of a win, for win rates that are corrected by gold.
        worst: Number of rows to list that differ most.

    Raises:
        UsageError: a column is not there, or no row is in both.
    """
    from siftune.curate.commands.label_join import report_on

    return report_on(
        _labelled(judged, "judged"),
        _labelled(gold, "gold"),
        [judge] if isinstance(judge, str) else [*judge],
        "judged",
        "gold",
        label=label,
        on=on,
        prompt=prompt,
        level=level,
        tie=tie,
        win=win,
        worst=worst,
    )


@python_errors()
def measure(
    rows: Any, pool: Any = None, *, embedding: str = "embedding", model: str | None = None
) -> SetFigures:
    """Measure rows as a set: Vendi score, NovelSum, log-determinant, and coverage of a pool.

    Figures of sets of different sizes do not compare, but for coverage of one pool.

    Args:
        rows: `siftune.Rows`, or a path: a run folder, a table, a raw file. Kept rows count.
        pool: The rows that they were selected from, for coverage and the densities of NovelSum.
        embedding: Column with the embeddings; rows without any are embedded.
        model: Embedding model for these (default: all-MiniLM-L6-v2).

    Raises:
        UsageError: there are no vectors, and none can be made.
    """
    from siftune.curate.runners.measure import figures_of_tables

    others = None if pool is None else _vectors(pool, embedding, model)
    return figures_of_tables(_vectors(rows, embedding, model), others, embedding)


def _vectors(rows: Any, embedding: str, model: str | None) -> pl.DataFrame:
    from siftune.curate.runners.measure import vector_table

    if isinstance(rows, str | Path):
        return vector_table(str(rows), embedding, model)
    if not hasattr(rows, "kept"):
        raise UsageError(f"expected siftune.Rows or a path, got {type(rows).__name__}: use read()")
    if embedding == "embedding" and embedding not in rows.kept.columns:
        rows = rows.score("embedding", model=model)
    kept: pl.DataFrame = rows.kept
    return kept


def _labelled(data: Any, name: str) -> list[LabelRow]:
    from siftune.curate.commands.label_join import LabelRow, label_rows
    from siftune.curate.io.plain_frames import frame_of

    if isinstance(data, str | Path):
        return label_rows(str(data))
    frame = frame_of(getattr(data, "kept", data))
    if frame.is_empty():
        raise UsageError(f"{name} has no rows")
    return [LabelRow(f"{name}, row {at}", row) for at, row in enumerate(frame.to_dicts(), 1)]


def decisions(run: Path) -> pl.DataFrame:
    """The last decision on each row of a run, the particulars of ``detail`` in columns.

    ``id``, ``decision`` (kept or dropped), ``stage``, ``reason``, then a column for each
    particular that a stage gave. Records that could not be read are in `quarantined`.
    """
    ledger = pl.read_parquet(run / "ledger.parquet", glob=False)
    ledger = ledger.filter(pl.col("decision") != "quarantined")
    last = ledger.select("id", "decision", "stage", "reason")
    particulars = _particulars(ledger["detail"], last.columns)
    return pl.concat([last, particulars], how="horizontal")


def _particulars(details: pl.Series, taken: list[str]) -> pl.DataFrame:
    """JSON objects as columns; values of several types in one column are texts."""
    objects: list[dict[str, Any]] = [orjson.loads(text) if text else {} for text in details]
    names = dict.fromkeys(key for one in objects for key in one)
    columns = [_column(name, [one.get(name) for one in objects]) for name in names]
    return pl.DataFrame(
        [
            column.alias(f"detail_{column.name}") if column.name in taken else column
            for column in columns
        ]
    )


def _column(name: str, values: list[Any]) -> pl.Series:
    try:
        return pl.Series(name, values, strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        pass
    numbers = all(value is None or isinstance(value, int | float) for value in values)
    if numbers:
        return pl.Series(name, values, dtype=pl.Float64, strict=False)
    texts = (one if isinstance(one, str | None) else orjson.dumps(one).decode() for one in values)
    return pl.Series(name, list(texts), dtype=pl.String)


def quarantined(run: Path) -> pl.DataFrame:
    """Records that could not be read: ``id``, ``source``, ``row``, ``reason``, ``detail``.

    ``row`` is the line of a line file, the record of any other.
    """
    listed = read_quarantine(run / "quarantine.jsonl")
    return listed.select("id", "source", pl.coalesce("row", "line"), "reason", "detail")


def every_row(run: Path, manifest: Mapping[str, Any]) -> pl.DataFrame:
    """All rows that were read, kept or dropped, with all scores that they got.

    A row that was dropped has no scores (null) of the stages after that, and is as it was then.
    """
    stages = manifest["stages"]
    table = pl.read_parquet(stage_file(run, stages[0]), glob=False)
    for stage in stages[1:]:
        if names := stage.get("columns") or stage.get("rewritten"):
            scores = pl.read_parquet(stage_file(run, stage), columns=["id", *names], glob=False)
            table = table.drop(names, strict=False)
            table = table.join(scores, on="id", how="left", maintain_order="left")
    return table


def set_apart(rows: pl.DataFrame, prefix: str, taken: Sequence[str]) -> pl.DataFrame:
    """The rows, with columns of ``taken`` names called ``prefix`` and their name, once or more.

    >>> set_apart(pl.DataFrame({"stage": [1], "row_stage": [2]}), "row_", ["stage"]).columns
    ['row_row_stage', 'row_stage']
    """
    names = {}
    for name in set(taken).intersection(rows.columns):
        new = prefix + name
        while new in rows.columns or new in taken:
            new = prefix + new
        names[name] = new
    return rows.rename(names)


def summary_lines(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each stage, with its counts in words."""
    ingest = manifest["stages"][0]
    aside = f", {ingest['quarantined']:,} quarantined" if ingest["quarantined"] else ""
    yield "ingest", f"{ingest['rows_in']:,} records read{aside}"
    for stage in manifest["stages"][1:]:
        if "columns" in stage:
            unscored = f", {stage['unscored']:,} not scored" if stage["unscored"] else ""
            yield stage["stage"], f"added {_few(stage['columns'])}{unscored}"
        else:
            dropped = (
                f", {number:,} {why.partition('/')[2]}"
                for why, number in stage["reasons"].items()
                if why.startswith("dropped/")
            )
            yield stage["stage"], f"kept {stage['kept']:,} of {stage['rows']:,}{''.join(dropped)}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more columns" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def headline(manifest: Mapping[str, Any]) -> str:
    """The kind of the rows, and how many are kept, dropped and quarantined."""
    counts = manifest["counts"]
    parts = [f"{counts['kept']:,} {manifest['kind']} rows kept", f"{counts['dropped']:,} dropped"]
    if counts["quarantined"]:
        parts.append(f"{counts['quarantined']:,} quarantined")
    return ", ".join(parts)


def as_html(manifest: Mapping[str, Any], kept: pl.DataFrame) -> str:
    """Counts of each stage, and the first kept rows, for a notebook."""
    lines = "".join(
        f"<tr><td>{escape(stage)}</td><td style='text-align:left'>{escape(told)}</td></tr>"
        for stage, told in summary_lines(manifest)
    )
    shown = kept.head(_HEAD)._repr_html_()
    return f"<div><b>{escape(headline(manifest))}</b><table>{lines}</table>{shown}</div>"
