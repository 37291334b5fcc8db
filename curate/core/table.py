"""The rows of a run as stages see them: on disk, column by column, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl

from curate.core.errors import UsageError
from curate.core.registry import closest
from curate.core.schema import BASE, Kind, content_columns

__all__ = ["BATCH", "ROW", "Table"]

BATCH = 8192
"""Rows a batch, counted in the ingested table: the same rows share a batch in every run."""

ROW = "_row"
"""Position of a row in the ingested table; stage files are sorted by it."""


@dataclass(frozen=True)
class Table:
    """The rows still in the run, and where each column's values lie.

    Nothing is held in memory but the positions of the rows that are left, so a table may be larger
    than memory as long as the stages read it in batches.
    """

    rows: Path
    kind: Kind
    height: int
    alive: np.ndarray
    scores: Mapping[str, Path] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names that stages can ask for; a score made in this run hides one the rows came with."""
        return tuple(dict.fromkeys([*pl.read_parquet_schema(self.rows), *self.scores]))

    def batches(self, names: Iterable[str]) -> Iterator[pl.DataFrame]:
        """``_row``, ``id``, ``kind`` and the named columns of the rows left, in order."""
        wanted = self.resolve(names)
        for start in range(0, self.height, BATCH):
            low, high = np.searchsorted(self.alive, [start, start + BATCH])
            if low < high:
                yield self._slice(wanted, start, self.alive[low:high])

    def gather(self, names: Iterable[str]) -> pl.DataFrame:
        """``_row``, ``id``, ``kind``, ``digest`` and the named columns of all rows left."""
        parts = list(self.batches([*names, "digest"]))
        return (
            pl.concat(parts)
            if parts
            else self._slice(self.resolve([*names, "digest"]), 0, self.alive)
        )

    def keep(self, mask: np.ndarray) -> Table:
        """The table with only the rows where ``mask`` is true."""
        return replace(self, alive=self.alive[mask])

    def with_scores(self, path: Path, names: Iterable[str]) -> Table:
        """The table with the named columns of a score stage's file."""
        return replace(self, scores={**self.scores, **dict.fromkeys(names, path)})

    def resolve(self, names: Iterable[str]) -> list[str]:
        """Column names in order, once each; ``content`` stands for the content columns.

        Raises:
            UsageError: there is no such column; the text names the closest.
        """
        wanted: dict[str, None] = {"id": None, "kind": None}
        for name in names:
            if name == "content" or (name == "messages" and name not in content_columns(self.kind)):
                wanted.update(dict.fromkeys(content_columns(self.kind)))
            elif name in self.columns:
                wanted[name] = None
            else:
                near = closest(
                    name, tuple(n for n in self.columns if n not in BASE or n == "source")
                )
                raise UsageError(f"no column {name!r}: no stage before this one adds it; {near}")
        return list(wanted)

    def _slice(self, names: list[str], start: int, rows: np.ndarray) -> pl.DataFrame:
        own = [name for name in names if name not in self.scores]
        span = pl.scan_parquet(self.rows).slice(start, BATCH).select(own).collect()
        part = span[rows - start].insert_column(0, pl.Series(ROW, rows, dtype=pl.Int64))
        for path in dict.fromkeys(self.scores[name] for name in names if name in self.scores):
            added = [name for name in names if self.scores.get(name) == path]
            inside = pl.col(ROW).is_between(start, start + BATCH - 1)
            scores = pl.scan_parquet(path).filter(inside).select(ROW, *added).collect()
            at = np.searchsorted(scores[ROW].to_numpy(), rows)
            part = part.hstack(scores[at].select(added))
        return part.select(ROW, *names)
