"""Index on disk of the shingle sets of rows kept by earlier runs, for comparison with later rows.

A folder with ``index.json``, which has the settings of the shingles and the segments in order of
arrival with their hashes, and one Parquet file (ids, sets of hashes) per segment. A segment is
named by the content it was made from: deciding on the same rows again compares them with the
segments before theirs only, gives the same result, and adds nothing.
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

from siftune.curate.comparing.shingle_sets import Sets
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.files.atomic import atomic_write, hash_file, read_json, write_json
from siftune.curate.files.outputs import check_run_folder, run_folder

__all__ = ["ShingleIndex"]

_FILES: Final = ("index.json", "{hex32}.parquet")
_SCHEMA: Final = {"id": pl.String(), "hashes": pl.List(pl.UInt64())}


@dataclass(frozen=True)
class _Segment:
    """A file of the index: the key of its content, and the hash of its bytes."""

    key: str
    sha256: str

    def __post_init__(self) -> None:
        """Refuse values that are no hash: a key becomes a file name."""
        if any(set(one) - set(hexdigits) for one in (self.key, self.sha256)):
            raise TypeError("expected two hashes")


@dataclass(frozen=True)
class ShingleIndex:
    """The index in ``folder`` of shingles with the given ``settings``.

    Raises:
        UsageError: the folder holds an index of other settings, or was not made for an index.
        DataError: it is not an index, or a segment of it is missing or damaged.
    """

    folder: Path
    settings: Mapping[str, Any]

    def before(self, key: str) -> tuple[pl.Series, Sets]:
        """Ids and sets of the rows of all segments before ``key``."""
        check_run_folder(self.folder, "index", _FILES)
        earlier = takewhile(lambda segment: segment.key != key, self._segments())
        tables = [self._read(segment) for segment in earlier]
        whole = pl.concat([pl.DataFrame(schema=_SCHEMA), *tables])
        counts = whole["hashes"].list.len().to_numpy()
        values = whole["hashes"].explode(empty_as_null=False).to_numpy()
        return whole["id"], Sets(values, np.append(0, counts.cumsum(dtype=np.int64)))

    def add(self, key: str, ids: pl.Series, sets: Sets) -> None:
        """Append a segment; an existing one is not changed."""
        with run_folder(self.folder, "index", _FILES):
            segments = self._segments()
            if key in [segment.key for segment in segments]:
                return
            lists = [sets.values[a:b] for a, b in zip(sets.offsets, sets.offsets[1:], strict=False)]
            table = pl.DataFrame({"id": ids, "hashes": lists}, schema=_SCHEMA)
            with atomic_write(self._path(key)) as part:
                table.write_parquet(part, compression="uncompressed")
            segments.append(_Segment(key, hash_file(self._path(key))))
            listed = [asdict(segment) for segment in segments]
            facts = {"settings": dict(self.settings), "stretches": listed}
            write_json(self.note, facts)

    @property
    def note(self) -> Path:
        """The file that lists the settings and segments."""
        return self.folder / "index.json"

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"

    def _segments(self) -> list[_Segment]:
        if not self.note.is_file():
            return []
        facts = read_json(self.note)
        try:
            settings = facts["settings"]
            segments = [_Segment(**each) for each in facts["stretches"]]
        except (TypeError, KeyError):
            raise DataError(
                f"{self.note}: expected the settings and the segments of an index; "
                "name another folder, or delete this one to rebuild the index"
            ) from None
        if settings != dict(self.settings):
            raise UsageError(
                f"{self.folder} is an index of {settings}, not of {dict(self.settings)}; "
                "use the same options, or name another folder"
            )
        return segments

    def _read(self, segment: _Segment) -> pl.DataFrame:
        path = self._path(segment.key)
        found = "no file"
        if path.is_file():
            if hash_file(path) == segment.sha256:
                return pl.read_parquet(path, columns=list(_SCHEMA), glob=False)
            found = "other bytes than were written"
        raise DataError(
            f"{path}: expected a segment of the index, found {found}; delete the folder to "
            "rebuild the index"
        )
