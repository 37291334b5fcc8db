"""The rows of a finished run: what was kept and dropped and why, as frames, files and a report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.runs.run_manifest import manifest_of
from siftune.results import (
    Explanation,
    as_html,
    decisions,
    every_row,
    explain,
    headline,
    quarantined,
    report,
    set_apart,
    summary_lines,
)
from siftune.session import python_errors, scratch

if TYPE_CHECKING:
    import datasets

    from siftune.curate.export_files.card import Exported

__all__ = ["RunRows"]

Which: TypeAlias = Literal["kept", "dropped", "all"]


@dataclass(frozen=True, eq=False, repr=False)
class RunRows:
    """The rows of a run folder, and what was decided on them.

    Attributes:
        folder: a run folder, as `siftune curate run` writes it; temporary unless it was named.
    """

    folder: Path

    @cached_property
    def kept(self) -> pl.DataFrame:
        """The rows that are kept, with all their columns and scores."""
        return pl.read_parquet(self.folder / "kept.parquet", glob=False)

    @cached_property
    def dropped(self) -> pl.DataFrame:
        """The rows that were dropped, each with the stage, the reason and its particulars.

        ``id``, ``stage``, ``reason``; a column for each particular, such as ``similarity`` and
        ``survivor`` of a duplicate; then the row's own columns and scores, of which one called
        ``stage`` or ``reason`` is ``row_stage`` or ``row_reason`` here.
        """
        gone = self.decisions.filter(pl.col("decision") == "dropped").drop("decision")
        known = [one.name for one in gone[:, 3:] if one.null_count() < gone.height]
        rows = set_apart(every_row(self.folder, self._manifest), "row_", ["stage", "reason"])
        particulars = set_apart(gone.select(known), "detail_", rows.columns)
        taken = dict(zip(known, particulars.columns, strict=True))
        gone = gone.select("id", "stage", "reason", *known).rename(taken)
        return gone.join(rows, on="id", how="left", maintain_order="left")

    @cached_property
    def quarantined(self) -> pl.DataFrame:
        """Records that could not be read: ``id``, ``source``, ``row``, ``reason``, ``detail``."""
        return quarantined(self.folder)

    @cached_property
    def decisions(self) -> pl.DataFrame:
        """The last decision on each row: id, decision, stage, reason, and the particulars."""
        return decisions(self.folder)

    @property
    def counts(self) -> dict[str, int]:
        """``rows`` that were read, and of them ``kept``, ``dropped`` and ``quarantined``."""
        return dict(self._manifest["counts"])

    @property
    def kind(self) -> str:
        """``conversation``, ``text``, ``preference``, ``unpaired`` or ``ranked``."""
        return str(self._manifest["kind"])

    def to_polars(self, which: Which = "kept") -> pl.DataFrame:
        """The rows as a polars frame: those that are ``kept``, those ``dropped``, or ``all``.

        ``all`` has the columns ``decision``, ``stage`` and ``reason`` beside; a column of the rows
        of such a name is ``row_decision``, ``row_stage`` or ``row_reason`` there.

        Raises:
            UsageError: ``which`` is none of them.
        """
        if which == "all":
            decided = self.decisions.select("id", "decision", "stage", "reason")
            rows = set_apart(every_row(self.folder, self._manifest), "row_", decided.columns[1:])
            return rows.join(decided, on="id", how="left", maintain_order="left")
        if which not in ("kept", "dropped"):
            raise UsageError(f"to_polars: expected kept, dropped or all, got {which!r}")
        return self.kept if which == "kept" else self.dropped

    @python_errors()
    def to_datasets(
        self, shape: str | None = None, columns: Sequence[str] = ()
    ) -> datasets.Dataset:
        """The kept rows as a `datasets.Dataset` that the trainers of TRL take as it is.

        ``shape`` is what rows are written as: messages, prompt_completion, prompt_only, preference,
        unpaired or text; by default what their kind is. ``columns`` are kept beside, such as ``id``
        or a score.

        Raises:
            UsageError: rows of this kind have no such shape, or there is no such column.
        """
        import datasets

        place = scratch()
        listed = [columns] if isinstance(columns, str) else columns
        done = self._exported(place.path / "rows", "trl", "datasets", shape, listed)
        if done.left_out:
            first = done.left_out[0]
            text = f"{len(done.left_out):,} rows are left out, the first, {first.id}: {first.why}"
            warnings.warn(text, stacklevel=3)
        if not done.rows:  # which the library cannot load
            return datasets.Dataset.from_dict({})
        return datasets.load_from_disk(str(done.path), keep_in_memory=True)

    @python_errors()
    def export(
        self,
        path: str | Path,
        *,
        format: str = "trl",
        to: str | None = None,
        shape: str | None = None,
        columns: Sequence[str] = (),
    ) -> Exported:
        """Write the kept rows for a trainer or in a raw format, with a dataset card beside them.

        ``format`` is the layout of a trainer (``"trl"``, ``"axolotl"``) or a raw format, ``to`` is
        jsonl, parquet or datasets, ``shape`` and ``columns`` are those of `to_datasets`.

        Raises:
            UsageError: unknown layout, container, shape or column; or ``path`` is in use.
        """
        listed = [columns] if isinstance(columns, str) else columns
        return self._exported(Path(path), format, to, shape, listed)

    def _exported(
        self, path: Path, layout: str, to: str | None, shape: str | None, columns: Sequence[str]
    ) -> Exported:
        from siftune.curate.export_files.write import export

        return export(self.folder, path, layout, to, shape, list(columns))

    def explain(self, row_id: str) -> Explanation:
        """Why a row was kept or dropped: its content, its scores, and each decision.

        Raises:
            UsageError: no such row; the text names the closest id.
        """
        return explain(self.folder, row_id)

    def report(self, path: str | Path) -> Path:
        """Write a report: one HTML file that works offline; returns its path."""
        return report(self.folder, path)

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        return manifest_of(self.folder)

    def __len__(self) -> int:
        return int(self._manifest["counts"]["kept"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The kept rows as dicts."""
        return self.kept.iter_rows(named=True)

    def __repr__(self) -> str:
        lines = [f"Rows({headline(self._manifest)})"]
        lines += [f"  {stage:<20} {told}" for stage, told in summary_lines(self._manifest)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return as_html(self._manifest, self.kept)
