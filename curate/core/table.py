"""The rows of a run as stages see them: on disk, column by column, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from curate.core.errors import UsageError
from curate.core.registry import closest
from curate.core.schema import BASE, Kind, content_columns

__all__ = ["BATCH", "ROW", "Table"]

BATCH = 8192
"""Rows a batch, counted in the ingested table: the same rows share a batch in every run."""

_SPAN = 4 * BATCH  # rows read at a time: a row group, so that none is decoded twice

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
        for span in self._spans(self.resolve(names), _SPAN):
            first = int(span[ROW][0]) // BATCH * BATCH
            edges = np.arange(first, first + _SPAN, BATCH)
            cuts = span[ROW].search_sorted(pl.Series(edges)).to_list()
            for low, high in pairwise([*cuts, span.height]):
                if low < high:
                    yield span[low:high]

    def gather(self, names: Iterable[str]) -> pl.DataFrame:
        """``_row``, ``id``, ``kind``, ``digest`` and the named columns of all rows left."""
        wanted = self.resolve([*names, "digest"])
        return next(self._spans(wanted, max(self.height, 1)), self._read(wanted, 0, 0))

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

    def _spans(self, names: list[str], size: int) -> Iterator[pl.DataFrame]:
        """The rows left of each ``size`` ingested ones, where there are any."""
        scored = {path: _rows_of(path) for path in set(self._files(names))}
        for start in range(0, self.height, size):
            low, high = np.searchsorted(self.alive, [start, start + size])
            if low < high:
                rows = self.alive[low:high]
                part = self._read(names, start, size)
                if len(rows) < part.height:
                    part = part[rows - start]
                part.insert_column(0, pl.Series(ROW, rows, dtype=pl.Int64))
                for path, known in scored.items():
                    part = part.hstack(self._scores(path, known, names, rows))
                yield part.select(ROW, *names)

    def _read(self, names: list[str], start: int, size: int) -> pl.DataFrame:
        own = [name for name in names if name not in self.scores]
        return pl.scan_parquet(self.rows).slice(start, size).select(own).collect()

    def _files(self, names: list[str]) -> list[Path]:
        return [self.scores[name] for name in names if name in self.scores]

    def _scores(
        self, path: Path, known: np.ndarray, names: list[str], rows: np.ndarray
    ) -> pl.DataFrame:
        """The named scores of ``rows`` in a stage's file, which has those of ``known``, sorted."""
        added = [name for name in names if self.scores.get(name) == path]
        low, high = np.searchsorted(known, [rows[0], rows[-1] + 1])
        scores = pl.scan_parquet(path).slice(low, high - low).select(added).collect()
        return scores if high - low == len(rows) else scores[np.searchsorted(known[low:high], rows)]


def _rows_of(path: Path) -> np.ndarray:
    return pl.read_parquet(path, columns=[ROW])[ROW].to_numpy()
