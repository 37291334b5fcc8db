"""SQLite cache of vectors by a hash of the content they were computed from."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import make_folder, refuse_other_than_file

__all__ = ["VectorCache"]

_KEYS_PER_QUERY = 500  # SQLite accepts at least 999


@dataclass(frozen=True)
class VectorCache:
    """Little-endian float32 vectors of ``width`` numbers by 16-byte key; None is any length.

    Every `put` is one transaction: after a kill at any moment the file has complete puts. Several
    processes may use it at once. A key always has the same vector, so the first put is kept.
    """

    path: Path
    width: int | None

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors (width,) of those ``keys`` that are cached."""
        found: dict[bytes, np.ndarray] = {}
        with self._open() as database:
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                part = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                rows = database.execute(f"SELECT key, vector FROM v WHERE key IN ({marks})", part)
                found.update((key, self._vector(blob)) for key, blob in rows)
        return found

    def put(self, vectors: Iterable[tuple[bytes, np.ndarray]]) -> None:
        """Store ``vectors`` in one transaction."""
        rows = [(key, vector.astype("<f4").tobytes()) for key, vector in vectors]
        with self._open() as database, database:
            database.executemany("INSERT OR IGNORE INTO v VALUES (?, ?)", rows)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        refuse_other_than_file(self.path)
        make_folder(self.path.parent)
        with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as database:
            try:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS v (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
                    " WITHOUT ROWID"
                )
                yield database
            except sqlite3.DatabaseError as error:
                raise self._unusable(str(error)) from None

    def _vector(self, blob: bytes) -> np.ndarray:
        if len(blob) % 4 or (self.width is not None and len(blob) != 4 * self.width):
            wanted = "whole numbers of 4" if self.width is None else str(4 * self.width)
            raise self._unusable(f"expected vectors of {wanted} bytes, found {len(blob)}")
        return np.frombuffer(blob, dtype="<f4").astype(np.float32)

    def _unusable(self, problem: str) -> UsageError:
        return UsageError(f"cache {self.path} cannot be used ({problem}): delete it and run again")
