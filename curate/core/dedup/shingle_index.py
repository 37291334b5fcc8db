"""The shingle sets of rows that were kept before, on disk, for later rows to be held against.

A folder with ``index.json``, which names the settings the shingles were made with and the stretches
in the order they came, and a Parquet file (ids, sets of hashes) for each. A stretch is named by the
content it was made from, so that deciding on the same rows again gives the same answer and adds
nothing: it is held against the stretches before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.core.dedup.sets import Sets
from curate.core.errors import DataError, UsageError
from curate.core.files import aside, locked, read_json, write_json

__all__ = ["ShingleIndex"]

_HASHES = pl.List(pl.UInt64)


@dataclass(frozen=True)
class ShingleIndex:
    """The index in ``folder``, of shingles made with ``settings``.

    Raises:
        UsageError: the folder holds an index of other settings.
        DataError: a stretch that it names is missing or damaged.
    """

    folder: Path
    settings: Mapping[str, Any]

    def before(self, key: str) -> tuple[pl.Series, Sets]:
        """Ids and sets of all rows but those of stretch ``key`` and of what came after it."""
        known = self._stretches()
        earlier = known[: known.index(key)] if key in known else known
        tables = [self._read(name) for name in earlier]
        whole = pl.concat([pl.DataFrame(schema={"id": pl.String, "hashes": _HASHES}), *tables])
        counts = whole["hashes"].list.len().to_numpy()
        values = whole["hashes"].explode(empty_as_null=False).to_numpy()
        return whole["id"], Sets(values, np.append(0, counts.cumsum(dtype=np.int64)))

    def add(self, key: str, ids: pl.Series, sets: Sets) -> None:
        """Append a stretch; one that is there already stays as it is."""
        with locked(self.folder):
            known = self._stretches()
            if key in known:
                return
            lists = [sets.values[a:b] for a, b in zip(sets.offsets, sets.offsets[1:], strict=False)]
            table = pl.DataFrame({"id": ids, "hashes": pl.Series(lists, dtype=_HASHES)})
            with aside(self._path(key)) as part:
                table.write_parquet(part, compression="uncompressed")
            facts = {"settings": dict(self.settings), "stretches": [*known, key]}
            write_json(self.folder / "index.json", facts)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"

    def _stretches(self) -> list[str]:
        note = self.folder / "index.json"
        if not note.is_file():
            return []
        facts = read_json(note)
        if facts["settings"] != dict(self.settings):
            raise UsageError(
                f"{self.folder} is an index of {facts['settings']}, not of {dict(self.settings)}; "
                "use the same options, or name another folder"
            )
        stretches: list[str] = facts["stretches"]
        return stretches

    def _read(self, key: str) -> pl.DataFrame:
        try:
            return pl.read_parquet(self._path(key), columns=["id", "hashes"])
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"{self._path(key)}: expected a stretch of the index, found {error}; "
                "make the index anew"
            ) from None
