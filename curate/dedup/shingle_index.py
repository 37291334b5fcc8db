"""The shingle sets of rows that were kept before, on disk, for later rows to be held against.

A folder with ``index.json``, which names the settings the shingles were made with and the stretches
in the order they came, each with its hash, and a Parquet file (ids, sets of hashes) for each. A
stretch is named by the content it was made from, so that deciding on the same rows again gives the
same answer and adds nothing: it is held against the stretches before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from string import hexdigits
from typing import Any, Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.dedup.shingle_sets import Sets
from siftune.curate.files.atomic import atomic_write, hash_file, read_json, write_json
from siftune.curate.files.outputs import check_run_folder, run_folder

__all__ = ["ShingleIndex"]

_FILES: Final = ("index.json", "{hex32}.parquet")
_SCHEMA: Final = {"id": pl.String(), "hashes": pl.List(pl.UInt64())}


@dataclass(frozen=True)
class _Stretch:
    """A file of the index, by the key of what it was made from, and the hash of its bytes."""

    key: str
    sha256: str

    def __post_init__(self) -> None:
        """Refuse what is no hash: a key becomes a file's name."""
        if any(set(one) - set(hexdigits) for one in (self.key, self.sha256)):
            raise TypeError("expected two hashes")


@dataclass(frozen=True)
class ShingleIndex:
    """The index in ``folder``, of shingles made with ``settings``.

    Raises:
        UsageError: the folder holds an index of other settings, or was not made for an index.
        DataError: it is not an index, or a stretch that it names is missing or damaged.
    """

    folder: Path
    settings: Mapping[str, Any]

    def before(self, key: str) -> tuple[pl.Series, Sets]:
        """Ids and sets of all rows but those of stretch ``key`` and of what came after it."""
        check_run_folder(self.folder, "index", _FILES)
        known = self._stretches()
        earlier = list(takewhile(lambda stretch: stretch.key != key, known))
        tables = [self._read(stretch) for stretch in earlier]
        whole = pl.concat([pl.DataFrame(schema=_SCHEMA), *tables])
        counts = whole["hashes"].list.len().to_numpy()
        values = whole["hashes"].explode(empty_as_null=False).to_numpy()
        return whole["id"], Sets(values, np.append(0, counts.cumsum(dtype=np.int64)))

    def add(self, key: str, ids: pl.Series, sets: Sets) -> None:
        """Append a stretch; one that is there already stays as it is."""
        with run_folder(self.folder, "index", _FILES):
            known = self._stretches()
            if key in [stretch.key for stretch in known]:
                return
            lists = [sets.values[a:b] for a, b in zip(sets.offsets, sets.offsets[1:], strict=False)]
            table = pl.DataFrame({"id": ids, "hashes": lists}, schema=_SCHEMA)
            with atomic_write(self._path(key)) as part:
                table.write_parquet(part, compression="uncompressed")
            every = [*known, _Stretch(key, hash_file(self._path(key)))]
            facts = {"settings": dict(self.settings), "stretches": [asdict(one) for one in every]}
            write_json(self.note, facts)

    @property
    def note(self) -> Path:
        """What the index is, and which stretches it has."""
        return self.folder / "index.json"

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"

    def _stretches(self) -> list[_Stretch]:
        if not self.note.is_file():
            return []
        facts = read_json(self.note)
        try:
            settings = facts["settings"]
            stretches = [_Stretch(**each) for each in facts["stretches"]]
        except (TypeError, KeyError):
            raise DataError(
                f"{self.note}: expected the settings and the stretches of an index; "
                "name another folder, or delete this one to make the index anew"
            ) from None
        if settings != dict(self.settings):
            raise UsageError(
                f"{self.folder} is an index of {settings}, not of {dict(self.settings)}; "
                "use the same options, or name another folder"
            )
        return stretches

    def _read(self, stretch: _Stretch) -> pl.DataFrame:
        path = self._path(stretch.key)
        found = "no file"
        if path.is_file():
            if hash_file(path) == stretch.sha256:
                return pl.read_parquet(path, columns=list(_SCHEMA), glob=False)
            found = "other bytes than were written"
        raise DataError(
            f"{path}: expected a stretch of the index, found {found}; delete the folder to make "
            "the index anew"
        )
