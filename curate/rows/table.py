"""Table of the rows left in a run: columns on disk, read batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import BASE, Kind, content_columns
from siftune.curate.rows.columns import kind_advice, nearest_columns

__all__ = ["BATCH", "ROW", "Table", "resolve"]

BATCH = 8192
"""Most rows of a batch, counted in the ingested table: batches are the same in every run."""

_DENSE = 0.75  # share of a span's rows above which the others' text may stay in memory

ROW = "_row"
"""Position of a row in the ingested table; stage files are sorted by it."""


def resolve(
    names: Iterable[str],
    there: Sequence[str],
    kind: Kind,
    fits: Callable[[str, str], bool] | None = None,
) -> list[str]:
    """The columns of ``there`` for ``names``, ``id`` and ``kind`` first, once each.

    ``content`` stands for the content columns, and so does ``messages`` where rows have none;
    ``*`` for all columns. ``fits`` is whether a column could be read in place of a name.

    Raises:
        UsageError: there is no such column; the text names the closest, or some of them.
    """
    names, wanted = tuple(names), dict.fromkeys(("id", "kind"))
    for name in names:
        if name == "content" or (name == "messages" and name not in content_columns(kind)):
            wanted.update(dict.fromkeys(content_columns(kind)))
        elif name == "*":
            wanted.update(dict.fromkeys(there))
        elif name in there:
            wanted[name] = None
        else:
            if advice := kind_advice(names, kind):
                raise UsageError(advice)
            some = tuple(n for n in there if n not in BASE or n in ("source", "extra"))
            advice = nearest_columns(name, some, fits and partial(fits, name))
            raise UsageError(
                f"no column {name!r}: the rows have none and no stage before this one adds it; "
                f"{advice}"
            )
    return list(wanted)


@dataclass(frozen=True)
class Table:
    """The rows left in the run, and the file of each column.

    Only the positions of the rows are in memory, so a table may be larger than memory as long as
    the stages read it in batches.
    """

    rows: Path
    kind: Kind
    height: int
    alive: np.ndarray
    scores: Mapping[str, Path] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns; a score made in this run replaces one that the rows came with."""
        return tuple(
            dict.fromkeys([*pl.scan_parquet(self.rows, glob=False).collect_schema(), *self.scores])
        )

    @property
    def score_schema(self) -> dict[str, pl.DataType]:
        """Names and types of the scores that this run made."""
        return {
            name: kind
            for path in dict.fromkeys(self.scores.values())
            for name, kind in pl.scan_parquet(path, glob=False).collect_schema().items()
            if self.scores.get(name) == path
        }

    def batches(self, names: Iterable[str]) -> Iterator[pl.DataFrame]:
        """``_row``, ``id``, ``kind`` and the named columns of the rows left, in order."""
        for span in self._spans(self.resolve(names)):
            batch = span[ROW].to_numpy() // BATCH
            cuts = np.flatnonzero(np.diff(batch)) + 1
            for low, high in pairwise([0, *cuts.tolist(), span.height]):
                yield span[low:high]

    def arrow(self) -> Iterator[pa.Table]:
        """All columns of the rows left, in Arrow's own memory, a row group at a time.

        For rows that are only written again: their layout stays.
        """
        names = list(self.columns)
        scored = {path: _rows_of(path) for path in set(self._files(names))}
        with pq.ParquetFile(self.rows) as file:
            for group, (start, stop) in enumerate(pairwise(_row_groups(self.rows))):
                low, high = np.searchsorted(self.alive, [start, stop])
                if low < high:
                    rows = self.alive[low:high]
                    own = [name for name in names if name not in self.scores]
                    part = file.read_row_group(group, columns=own)
                    if len(rows) < part.num_rows:
                        part = part.filter(_arrow_mask(_mask(rows, start, stop)))
                    for path, known in scored.items():
                        for column in self._scores(path, known, names, rows).iter_columns():
                            values = column.to_arrow(compat_level=pl.CompatLevel.oldest())
                            part = part.append_column(column.name, values)
                    yield part.select(names)

    def gather(self, names: Iterable[str]) -> pl.DataFrame:
        """``_row``, ``id``, ``kind``, ``digest`` and the named columns of all rows left."""
        wanted = self.resolve([*names, "digest"])
        spans = list(self._spans(wanted))
        return pl.concat(spans, rechunk=True) if spans else self._none(wanted)

    def keep(self, mask: np.ndarray) -> Table:
        """The table with only the rows where ``mask`` is true."""
        return replace(self, alive=self.alive[mask])

    def with_scores(self, path: Path, names: Iterable[str]) -> Table:
        """The table with the named columns of a score stage's file."""
        return replace(self, scores={**self.scores, **dict.fromkeys(names, path)})

    def resolve(self, names: Iterable[str]) -> list[str]:
        """Column names in order, once each; see `resolve`."""
        return resolve(names, self.columns, self.kind)

    def _spans(self, names: list[str]) -> Iterator[pl.DataFrame]:
        """The rows left of each row group that has any: none is decoded twice."""
        scored = {path: _rows_of(path) for path in set(self._files(names))}
        for start, stop in pairwise(_row_groups(self.rows)):
            low, high = np.searchsorted(self.alive, [start, stop])
            if low < high:
                rows = self.alive[low:high]
                part = self._read(names, start, stop - start)
                if len(rows) < part.height:
                    part = _left(part, rows - start)
                part.insert_column(0, pl.Series(ROW, rows, dtype=pl.Int64))
                for path, known in scored.items():
                    part = part.hstack(self._scores(path, known, names, rows))
                yield part.select(ROW, *names)

    def _none(self, names: list[str]) -> pl.DataFrame:
        """An empty table with all the columns."""
        part = self._read(names, 0, 0)
        part.insert_column(0, pl.Series(ROW, [], dtype=pl.Int64))
        for path in set(self._files(names)):
            part = part.hstack(
                pl.scan_parquet(path, glob=False).select(self._of(path, names)).head(0).collect()
            )
        return part.select(ROW, *names)

    def _read(self, names: list[str], start: int, size: int) -> pl.DataFrame:
        own = [name for name in names if name not in self.scores]
        return pl.scan_parquet(self.rows, glob=False).slice(start, size).select(own).collect()

    def _files(self, names: list[str]) -> list[Path]:
        return [self.scores[name] for name in names if name in self.scores]

    def _of(self, path: Path, names: list[str]) -> list[str]:
        return [name for name in names if self.scores.get(name) == path]

    def _scores(
        self, path: Path, known: np.ndarray, names: list[str], rows: np.ndarray
    ) -> pl.DataFrame:
        """The named scores of ``rows`` in a stage's file, which has the rows ``known``, sorted."""
        added = self._of(path, names)
        low, high = np.searchsorted(known, [rows[0], rows[-1] + 1])
        scores = pl.scan_parquet(path, glob=False).slice(low, high - low).select(added).collect()
        return scores if high - low == len(rows) else scores[np.searchsorted(known[low:high], rows)]


def _mask(rows: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Mask of the rows from ``start`` to ``stop`` that are in ``rows``."""
    mask = np.zeros(stop - start, bool)
    mask[rows - start] = True
    return mask


def _arrow_mask(mask: np.ndarray) -> pa.Array:
    """Truth values as Arrow has them; `pa.array` would import pandas, 0.3 s."""
    bits = pa.py_buffer(np.packbits(mask, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, bits])


def _left(part: pl.DataFrame, rows: np.ndarray) -> pl.DataFrame:
    """Some rows of a span; where they are few, without the others' text in memory."""
    if len(rows) > _DENSE * part.height:
        return part.filter(pl.Series(_mask(rows, 0, part.height)))
    # Strings are views of buffers; Arrow's older layout holds the bytes that are left, no others.
    return pl.DataFrame(pl.from_arrow(part[rows].to_arrow(compat_level=pl.CompatLevel.oldest())))


def _row_groups(path: Path) -> list[int]:
    """The first row of each row group, and the number of rows."""
    known = pq.read_metadata(path)
    sizes = [known.row_group(group).num_rows for group in range(known.num_row_groups)]
    return [0, *accumulate(sizes)]


def _rows_of(path: Path) -> np.ndarray:
    return pl.read_parquet(path, columns=[ROW], glob=False)[ROW].to_numpy()
