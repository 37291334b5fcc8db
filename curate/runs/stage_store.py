"""Store of finished stages, each found by the hash of all that it was made from."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.code_hash import code_hash
from siftune.curate.core.custom_file import is_custom
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import code_of
from siftune.curate.files.atomic import (
    atomic_write,
    digest_of,
    hash_file,
    hash_tree,
    read_json,
    write_json,
)
from siftune.curate.files.output_marker import STAGE_FILES, expression_of
from siftune.curate.models.resolve import catalog_key
from siftune.curate.records.custom_layouts import READ_BY
from siftune.curate.runs.recipe import GROUPS, Spec

__all__ = [
    "StageStore",
    "StoredStage",
    "ingest_code",
    "is_note",
    "measured",
    "option_files",
    "stage_code",
]

_NOTE: Final = expression_of(STAGE_FILES[1])
_DIGEST: Final = "digest"  # of all else in a note


@dataclass(frozen=True)
class StoredStage:
    """A finished stage: key, hash of its file, facts, and its cost."""

    key: str
    sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0

    @property
    def clock(self) -> dict[str, float]:
        """Cost in seconds and memory, on this machine."""
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_mb": self.peak_mb,
        }

    @property
    def summary(self) -> str:
        """Row counts of the stage, in words."""
        facts = self.facts
        if "kept" in facts and "rows" in facts:
            measured = facts.get("measured", {}).items()  # texts have a line of their own
            noted = "".join(f", {key} {one}" for key, one in measured if not isinstance(one, str))
            return f"kept {facts['kept']:,} of {facts['rows']:,} rows{noted}"
        if "columns" in facts:
            without = f", {facts['unscored']:,} not scored" if facts["unscored"] else ""
            why = ", ".join(
                f"{reason} {count:,}" for reason, count in facts.get("errors", {}).items()
            )
            return f"scored {facts['rows']:,} rows{without}{f' ({why})' if why else ''}"
        return f"read {facts['kept']:,} rows, {facts['quarantined']:,} quarantined"


@dataclass(frozen=True)
class StageStore:
    """The folder of finished stages of one run.

    A stage's file appears under its name only when it is whole; the note beside it, written last,
    has the hashes of the file and of the note's own content. A stage whose file or note is damaged
    is made again.
    """

    folder: Path

    def path(self, name: str, key: str) -> Path:
        """Path of the output of a stage."""
        return self.folder / f"{name}-{key[:16]}.parquet"

    def done(self, name: str, key: str, writes: Sequence[str] = ()) -> StoredStage | None:
        """The finished stage of this key, if it is there and undamaged, with all that it writes.

        One with rows that are to be tried again (``to_retry``) is not finished.
        """
        known = self.noted(name, key)
        if (
            known is None
            or known.facts.get("to_retry")
            or not all(Path(one).exists() for one in writes)
        ):
            return None
        return known if self._is_whole(known, self.path(name, key)) else None

    def _is_whole(self, known: StoredStage, path: Path) -> bool:
        aside = path.with_suffix(".quarantine.jsonl")
        expected = known.facts.get("quarantine_sha256")
        if expected is not None and not (aside.is_file() and hash_file(aside) == expected):
            return False
        return known.sha256 == hash_file(path)

    def noted(self, name: str, key: str) -> StoredStage | None:
        """The note of a stage of this key, if there is one; the file itself is not checked."""
        path = self.path(name, key)
        note = path.with_suffix(".json")
        if not (path.is_file() and note.is_file()):
            return None
        try:
            content = read_json(note)
            if content.pop(_DIGEST) != digest_of(content):
                return None
            known = StoredStage(**content)
        except (UsageError, AttributeError, KeyError, TypeError):  # damaged: made again
            return None
        return known if known.key == key else None

    def make(self, name: str, key: str, work: Callable[[Path], Mapping[str, Any]]) -> StoredStage:
        """Run ``work`` on a temporary name, then rename its output to that of the stage.

        ``work`` writes its output to the path it is given and returns the stage's facts.
        """
        path = self.path(name, key)
        clock: dict[str, float] = {}
        with measured(clock):
            with atomic_write(path) as part:
                facts = dict(work(part))
            sha256 = hash_file(path)
        done = StoredStage(key, sha256, facts, **clock)
        content = asdict(done)
        write_json(path.with_suffix(".json"), content | {_DIGEST: digest_of(content)})
        return done

    def drop_all_but(self, names: set[Path]) -> None:
        """Remove stages that are no longer part of the run; other files are left alone."""
        for note in sorted(self.folder.glob("*.json")):
            if is_note(note) and note.with_suffix(".parquet") not in names:
                note.with_suffix(".parquet").unlink(missing_ok=True)
                note.with_suffix(".quarantine.jsonl").unlink(missing_ok=True)
                note.unlink()


def is_note(path: Path) -> bool:
    """Whether a path has the name of the note of a stage."""
    return _NOTE.fullmatch(path.name) is not None


def stage_code(spec: Spec) -> str:
    """Hash of the code that a stage's output depends on: the component's, and that of stages.

    Another component's code is no part of it (`core.code_hash`).
    """
    return code_of(GROUPS[spec.group], spec.name, *_READ_BY[spec.group], alone=_WRITTEN_BY)


def ingest_code(formats: Iterable[str]) -> str:
    """Hash of the code that reads sources of these formats; a user's hands on to some of ours."""
    known = set(formats)
    if any(map(is_custom, known)):
        known |= {name for names in READ_BY.values() for name in names}
    used = [code_of("curate.formats", name) for name in sorted(known)]
    return digest_of([code_hash("siftune.curate.io.ingest", alone=_WRITTEN_BY), *used])


_READ_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "score": ("siftune.curate.rows.conversation_views", "siftune.curate.rows.table"),
    "select": ("siftune.curate.rows.table",),
}
"""Modules that lay rows before a component."""

_WRITTEN_BY: Final = ("siftune.curate.runners.run",)
"""Modules that write what a component answers, without what else they import."""


def option_files(options: Mapping[str, Any]) -> dict[str, str]:
    """Content hashes of files, folders and models of the catalogue that options name."""
    found: dict[str, str] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            value = value.get("path")  # a source with its format
        if isinstance(value, str) and key != "cache" and 0 < len(value) < 4096:
            path = Path(value)
            if path.is_file():
                found[key] = hash_file(path)
            elif path.is_dir():
                found[key] = hash_tree(path)
            elif (known := catalog_key(value)) is not None:
                found[key] = known
    return found


@contextmanager
def measured(clock: dict[str, float]) -> Iterator[None]:
    """Wall and CPU seconds (of all threads, and of processes waited for) and peak memory (MB)."""
    _reset_peak()
    start, used = time.perf_counter(), _cpu_seconds()
    yield
    clock["seconds"] = round(time.perf_counter() - start, 3)
    clock["cpu_seconds"] = round(_cpu_seconds() - used, 3)
    clock["peak_mb"] = round(_peak_mb(), 1)


def _cpu_seconds() -> float:
    times = os.times()  # of children zero on Windows
    return time.process_time() + times.children_user + times.children_system


def _reset_peak() -> None:
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float:
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="utf-8").split()
        return int(status[status.index("VmHWM:") + 1]) / 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
