"""Cache of finished stages that all runs of a project share.

The name of a stage has its key, a hash of all that it was made from: the bytes of its inputs, its
options, its code. Its files are linked into the cache and out of it, or copied between disks, and
appear whole; the note with the hash of the content is written last. A run checks that hash, so a
damaged entry is made again. Beyond a total size the oldest entries are removed.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from siftune.curate.core.errors import SiftuneError
from siftune.curate.files.atomic import atomic_write, kind_of_entry
from siftune.curate.files.project_folder import TAG, is_private, make_project_folder
from siftune.curate.runs.stage_store import StageStore, StoredStage, is_note

__all__ = ["StageCache", "project_cache"]

_MOST_BYTES: Final = 20 << 30
_ENDINGS: Final = (".quarantine.jsonl", ".parquet", ".json")
"""The files of a stage, the note last."""


@dataclass(frozen=True)
class StageCache:
    """A folder of finished stages that runs share; it may be removed at any time.

    A folder of another user, or one that all users can write to, is not used; nor is a link, or a
    folder with other things in it and without our tag. Only files of stages are ever removed.
    """

    folder: Path
    most_bytes: int = _MOST_BYTES

    def has(self, name: str, key: str) -> StoredStage | None:
        """The note of a stage that is in the cache and undamaged, else None."""
        return self._stages.done(name, key) if self._is_safe() else None

    def path(self, name: str, key: str) -> Path:
        """The rows or scores of a stage in the cache."""
        return self._stages.path(name, key)

    def fetch(self, name: str, key: str, into: StageStore) -> StoredStage | None:
        """Copy a stage into the stages of a run; None if it is missing or damaged."""
        if not self._is_safe() or self._stages.noted(name, key) is None:
            return None
        try:
            self._copy(self._stages.path(name, key), into.path(name, key))
        except OSError:
            return None
        found = into.done(name, key)
        with suppress(OSError):
            if found is None:
                self._remove(self._stages.path(name, key))
            else:
                os.utime(self._stages.path(name, key).with_suffix(".json"))
        return found

    def keep(self, name: str, key: str, of: StageStore) -> None:
        """Store a stage of a run; where that fails the run continues without."""
        known = of.noted(name, key)
        if known is None or known.facts.get("to_retry"):
            return
        if self._is_safe() and self._stages.noted(name, key) is not None:
            return
        with suppress(OSError, SiftuneError):
            self._make_folder()
            if self._is_safe():
                self._copy(of.path(name, key), self._stages.path(name, key))
                self._shrink(but=self._stages.path(name, key))

    @property
    def _stages(self) -> StageStore:
        return StageStore(self.folder / "stages")

    def _is_safe(self) -> bool:
        return self._is_ours() and is_private(self._stages.folder)

    def _is_ours(self) -> bool:
        tag = self.folder / "CACHEDIR.TAG"
        return is_private(self.folder) and kind_of_entry(tag) == "a file" and _is_tag(tag)

    def _make_folder(self) -> None:
        make_project_folder(self.folder)
        if self._is_ours() and kind_of_entry(self._stages.folder) is None:
            self._stages.folder.mkdir(mode=0o700)

    def _copy(self, source: Path, target: Path) -> None:
        """Link or copy the files of a stage, its note last."""
        for ending in _ENDINGS:
            one = source.with_suffix(ending)
            if one.is_file():
                with atomic_write(target.with_suffix(ending)) as part:
                    _link(one, part)

    def _shrink(self, but: Path) -> None:
        """Remove the least recently used stages beyond the size of the cache."""
        found = (
            path
            for path in self._stages.folder.glob("*.json")
            if is_note(path) and kind_of_entry(path) == "a file"
        )
        notes = sorted(found, key=lambda path: path.stat().st_mtime_ns)
        total = sum(map(_size, notes))
        for note in notes:
            if total <= self.most_bytes:
                return
            if note.with_suffix(".parquet") != but:
                total -= _size(note)
                self._remove(note)

    def _remove(self, stage: Path) -> None:
        for ending in reversed(_ENDINGS):
            stage.with_suffix(ending).unlink(missing_ok=True)


def project_cache() -> StageCache | None:
    """The cache of the project in the current folder.

    It is ``.siftune_cache``, or the folder that SIFTUNE_STAGE_CACHE names; empty: none.
    """
    named = os.environ.get("SIFTUNE_STAGE_CACHE", ".siftune_cache")
    return StageCache(Path(named)) if named else None


def _is_tag(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(TAG) + 1) == TAG.encode()


def _link(source: Path, target: Path) -> None:
    """Link a file under another name, or copy it where links are impossible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _size(note: Path) -> int:
    files = (note.with_suffix(ending) for ending in _ENDINGS)
    return sum(file.stat().st_size for file in files if file.is_file())
